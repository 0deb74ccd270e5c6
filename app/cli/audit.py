"""`weighbridge audit`: who changed what."""

import json
from typing import Annotated, Any

import typer

from app.cli.admin_client import ask
from app.cli.options import ConfigOption, JsonOption
from app.cli.output import print_json, print_table, whole_seconds
from app.cli.usage import check_span

_COLUMNS = ("at", "actor", "action", "subject", "detail")


def audit(
    since: Annotated[
        str | None, typer.Option(metavar="24h|DATE", help="The start: 24h (ago), 2026-11 or 2026-11-22, for example.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="24h|DATE", help="The end, in the same forms; not included.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Show at most the last N entries.")] = 1000,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show who changed keys, clients, groups and limits, and which calls were ended. Times are UTC."""
    check_span(since, until)
    given = {"since": since, "until": until, "limit": str(limit)}
    query = {name: value for name, value in given.items() if value is not None}
    entries: list[dict[str, Any]] = ask("GET", "/audit", config, params=query)["entries"]
    if as_json:
        print_json(entries)
        return
    print_table(_COLUMNS, [[_cell(name, entry[name]) for name in _COLUMNS] for entry in entries])
    if len(entries) == limit:
        typer.echo(f"These are the last {limit:,}. Use --limit and --until to see more.", err=True)


def _cell(name: str, value: object) -> object:
    if name != "detail":
        return whole_seconds(value)
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
