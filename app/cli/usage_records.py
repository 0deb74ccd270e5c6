"""Prints records for `usage --by request`: a table, CSV, or one line of JSON each."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from app.cli.output import CsvOutput, TableOutput, print_table, visible

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.upstream.api.http_client import HttpClient

NOTHING_FOUND = "No calls are recorded for this."

COLUMNS = (
    "started_at",
    "client",
    "model_served",
    "outcome",
    "http_status",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "duration_ms",
    "request_id",
)
PIECE_ROWS = 500
"""Rows of a table whose widths are measured together."""
NUMBERS = frozenset(("http_status", "input_tokens", "output_tokens", "cost_usd", "duration_ms"))


async def print_records(admin: "HttpClient", query: Mapping[str, str], *, as_csv: bool, as_json: bool) -> None:
    """Print the records of a query as they come. Raises CommandFailedError, also if a `request` is not found."""
    from app.cli.admin_client import CommandFailedError
    from app.domain.record_json import RECORD_FIELDS

    output = CsvOutput(RECORD_FIELDS) if as_csv else None
    lines = TableOutput(COLUMNS, numbers=NUMBERS)
    table: list[Mapping[str, Any]] = []
    found = False
    async for line in _lines(admin, query):
        found = True
        if as_json:
            sys.stdout.write(visible(line) + "\n")
        elif output is not None:
            output.write(json.loads(line))
        else:
            table.append(json.loads(line))
        if len(table) == PIECE_ROWS and "request" not in query:
            lines.write([_row(record) for record in table])
            table.clear()
    if "request" in query and not found:
        raise CommandFailedError(
            f"there is no record of {query['request']!r}: "
            "the id is wrong, or the record is older than ledger.retention_days"
        )
    if table and "request" in query:
        _print_calls(table)
    elif table:
        lines.write([_row(record) for record in table])
    elif not (found or as_json):
        typer.echo(NOTHING_FOUND, err=True)


async def _lines(admin: "HttpClient", query: Mapping[str, str]) -> "AsyncIterator[str]":
    from app.cli.admin_client import CommandFailedError, lines_of

    async with admin.stream("GET", "/admin/api/usage", params={**query, "by": "request"}) as answer:
        if answer.is_error:
            await answer.aread()
            raise CommandFailedError(answer.json()["error"]["message"])
        async for line in lines_of(answer):
            yield line


def _print_calls(records: Sequence[Mapping[str, Any]]) -> None:
    """Print all fields of each record, one on a line."""
    for place, record in enumerate(records):
        if place:
            print()
        known = [[name, value] for name, value in record.items() if value is not None]
        print_table(("field", "value"), [[name, _plain(value)] for name, value in known])


def _plain(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | dict | list) else value


def _row(record: Mapping[str, Any]) -> list[object]:
    return [_cell(record, name) for name in COLUMNS]


def _cell(record: Mapping[str, Any], name: str) -> object:
    value = record[name]
    if name == "started_at":
        return value[:19] + "Z"
    if name == "model_served":
        return value or record["model_requested"]
    return round(value) if isinstance(value, float) else value
