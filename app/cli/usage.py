"""`weighbridge usage`: the ledger, summed or record by record."""

import csv
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import ConfigOption, JsonOption
from app.cli.output import print_json, print_table, visible

if TYPE_CHECKING:
    from app.upstream.http_client import HttpClient

COLUMNS = {
    "requests": "requests",
    "input_tokens": "input",
    "cached_input_tokens": "cached",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
    "total_tokens": "total",
    "cost_usd": "cost_usd",
    "unknown_usage": "unknown",
}
NUMBERS = frozenset(("http_status", "input_tokens", "output_tokens", "cost_usd", "duration_ms"))
REQUEST_COLUMNS = (
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


class By(StrEnum):
    """What a line of the report is."""

    CLIENT = "client"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"
    REQUEST = "request"


def usage(
    since: Annotated[str | None, typer.Option(metavar="24h|DATE", help="From when on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="24h|DATE", help="Until when, exclusive.")] = None,
    client: Annotated[str | None, typer.Option(metavar="CLIENT", help="Only this client.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only this model, as served.")] = None,
    upstream: Annotated[str | None, typer.Option(metavar="NAME", help="Only this upstream; a demo's is mock.")] = None,
    by: Annotated[By, typer.Option(help="What a line is.")] = By.CLIENT,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show what was used and what it cost. Times are UTC."""
    if as_csv and as_json:
        message = "--csv and --json exclude each other"
        raise typer.BadParameter(message)
    _check_span(since, until)
    given = {"since": since, "until": until, "client": client, "model": model, "upstream": upstream, "by": by.value}
    query = {name: value for name, value in given.items() if value is not None}
    if by is By.REQUEST:
        _show_requests(query, config, as_csv=as_csv, as_json=as_json)
        return
    rows: list[dict[str, Any]] = _fetch(query, config)
    if as_json:
        print_json(rows)
    elif rows and as_csv:
        _print_csv(rows)
    elif rows:
        lines = [[row[by.value], *(row[name] for name in COLUMNS)] for row in rows]
        if len(rows) > 1:
            lines.append(["total", *(_sum(row[name] for row in rows) for name in COLUMNS)])
        print_table((by.value, *COLUMNS.values()), lines, numbers=frozenset(COLUMNS.values()))
        _explain_unknown(rows)
    else:
        _say_nothing_found()


def _check_span(since: str | None, until: str | None) -> None:
    now_us = time.time_ns() // 1000
    begin, end = _moment(since, "--since", now_us), _moment(until, "--until", now_us)
    if begin is not None and end is not None and begin >= end:
        raise typer.BadParameter(f"{until!r} is not later than --since {since!r}.", param_hint="--until")


def _moment(text: str | None, option: str, now_us: int) -> int | None:
    from app.domain.spans import parse_moment

    try:
        return None if text is None else parse_moment(text, now_us)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _show_requests(query: Mapping[str, str], config: Path | None, *, as_csv: bool, as_json: bool) -> None:
    from app.cli.admin_client import CommandFailedError, lines_of, run_admin

    async def work(admin: "HttpClient") -> None:
        writer: Any = None
        rows: list[Sequence[object]] = []
        async with admin.stream("GET", "/admin/api/usage", params=query) as answer:
            if answer.is_error:
                await answer.aread()
                raise CommandFailedError(answer.json()["error"]["message"])
            async for line in lines_of(answer):
                if as_json:
                    sys.stdout.write(visible(line) + "\n")
                    continue
                record = json.loads(line)
                if not as_csv:
                    rows.append([_cell(record, name) for name in REQUEST_COLUMNS])
                    continue
                if writer is None:
                    writer = csv.DictWriter(sys.stdout, list(record))
                    writer.writeheader()
                writer.writerow({name: _harmless(value) for name, value in record.items()})
        if rows:
            print_table(REQUEST_COLUMNS, rows, numbers=NUMBERS)
        elif not as_json and writer is None:
            _say_nothing_found()

    run_admin(work, config)


def _fetch(query: Mapping[str, str], config: Path | None) -> list[dict[str, Any]]:
    from app.cli.admin_client import call, run_admin

    async def work(admin: "HttpClient") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await call(admin, "GET", "/usage", params=query))["rows"]
        return rows

    return run_admin(work, config)


def _cell(record: Mapping[str, Any], name: str) -> object:
    value = record[name]
    if name == "started_at":
        return value[:19] + "Z"
    if name == "model_served":
        return value or record["model_requested"]
    return round(value) if isinstance(value, float) else value


def _print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)


def _say_nothing_found() -> None:
    typer.echo("Nothing is in the ledger for that.", err=True)


def _harmless(value: object) -> object:
    """A spreadsheet takes text that begins so for a formula; names of models come from strangers."""
    if not isinstance(value, str):
        return value
    return visible(f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value)


def _sum(values: Iterable[object]) -> object:
    from decimal import Decimal

    known = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in known):
        return format(sum((Decimal(str(value)) for value in known), Decimal(0)).normalize(), "f")
    return sum(value for value in known if isinstance(value, int)) if known else None


def _explain_unknown(rows: Sequence[Mapping[str, Any]]) -> None:
    unknown = sum(row["unknown_usage"] for row in rows)
    if unknown:
        calls = "1 call has" if unknown == 1 else f"{unknown:,} calls have"
        typer.echo(f"{calls} no known usage (failed or cut off): not in the sums.", err=True)
