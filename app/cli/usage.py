"""`weighbridge usage`: shows the ledger, in sums or record by record."""

import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import ConfigOption, JsonOption
from app.cli.output import CsvOutput, print_json, print_table
from app.cli.usage_records import NOTHING_FOUND, print_records

if TYPE_CHECKING:
    from app.upstream.api.http_client import HttpClient

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


class By(StrEnum):
    """What one line of the report stands for."""

    CLIENT = "client"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"
    REQUEST = "request"


class SortBy(StrEnum):
    """What the lines are sorted by, other than their group."""

    COST = "cost"


class Form(StrEnum):
    """How lines are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def usage(
    since: Annotated[
        str | None, typer.Option(metavar="24h|DATE", help="The start: 24h, 2026-11, 2026-11-22T10:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="24h|DATE", help="The end; not included.")] = None,
    client: Annotated[str | None, typer.Option(metavar="CLIENT", help="Only this client.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only answers of this model.")] = None,
    upstream: Annotated[str | None, typer.Option(metavar="NAME", help="Only this upstream.")] = None,
    outcome: Annotated[
        str | None, typer.Option(metavar="OUTCOME", help="Only calls that ended: completed, failed, timeout...")
    ] = None,
    request: Annotated[str | None, typer.Option(metavar="ID", help="One call, by any of its ids.")] = None,
    by: Annotated[
        list[By] | None, typer.Option(metavar="WHAT", help="client, model, day, hour or request. [default: client]")
    ] = None,
    sort: Annotated[SortBy | None, typer.Option(metavar="cost", help="The highest cost first.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="At most N lines; by day, hour or request the last N."),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Only calls of `serve --demo`.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Real calls, and those of `serve --demo`.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show what was used and what it cost, by client. Times are UTC."""
    from app.cli.admin_client import run_admin

    form = _form(as_csv=as_csv, as_json=as_json)
    line = _line(by, request)
    check_span(since, until)
    given = {
        "since": since,
        "until": until,
        "client": client,
        "model": model,
        "upstream": upstream,
        "outcome": _checked_outcome(outcome),
        "request": _as_kept(request),
        "sort": sort,
        "limit": limit,
        "book": _book(demo=demo, everything=everything),
    }
    query = {name: str(value) for name, value in given.items() if value is not None}

    async def work(admin: "HttpClient") -> None:
        await (_show_records(admin, query, form) if line is By.REQUEST else _show_sums(admin, query, line, form))

    run_admin(work, config, reads=line is By.REQUEST)


async def _show_records(admin: "HttpClient", query: Mapping[str, str], form: Form) -> None:
    from app.cli.admin_client import call

    await print_records(admin, query, as_csv=form is Form.CSV, as_json=form is Form.JSON)
    if not query.keys() & {"book", "request"}:
        _say_what_is_left_out((await call(admin, "GET", "/usage", params=query))["left_out"])


async def _show_sums(admin: "HttpClient", query: Mapping[str, str], by: By, form: Form) -> None:
    from app.cli.admin_client import call

    found = await call(admin, "GET", "/usage", params={**query, "by": by.value})
    rows: list[dict[str, Any]] = found["rows"]
    if form is Form.JSON:
        print_json(rows)
    elif form is Form.CSV:
        await _print_csv(admin, query, rows, by)
    elif rows:
        _print_sums(rows, by)
    if not rows and form is not Form.JSON:
        typer.echo(NOTHING_FOUND, err=True)
    _say_what_is_left_out(found["left_out"])


async def _print_csv(admin: "HttpClient", query: Mapping[str, str], rows: Sequence[Mapping[str, Any]], by: By) -> None:
    """Print the rows. The header comes from the sums over everything, which always exist."""
    from app.cli.admin_client import call

    (in_all,) = (await call(admin, "GET", "/usage", params=query))["rows"]
    output = CsvOutput([by.value, *in_all])
    for row in rows:
        output.write(row)


def _print_sums(rows: Sequence[Mapping[str, Any]], by: By) -> None:
    lines = [[row[by.value], *(row[name] for name in COLUMNS)] for row in rows]
    if len(rows) > 1:
        lines.append(["total", *(_sum(row[name] for row in rows) for name in COLUMNS)])
    print_table((by.value, *COLUMNS.values()), lines, numbers=frozenset(COLUMNS.values()))
    if unknown := sum(row["unknown_usage"] for row in rows):
        calls = "1 call has" if unknown == 1 else f"{unknown:,} calls have"
        typer.echo(f"{calls} no known usage (failed or cut off). The sums leave them out.", err=True)


def _say_what_is_left_out(left_out: Mapping[str, Any] | None) -> None:
    if left_out is None or not left_out["requests"]:
        return
    calls = "1 call" if left_out["requests"] == 1 else f"{left_out['requests']:,} calls"
    if left_out["book"] == "demo":
        typer.echo(f"Not shown: {calls} of the demo. `usage --demo` shows them, `usage --all` everything.", err=True)
    else:
        typer.echo(
            f"Not shown: {calls} that cost money, because the demo runs. `usage --all` shows everything.", err=True
        )


def _form(*, as_csv: bool, as_json: bool) -> Form:
    if as_csv and as_json:
        message = "--csv and --json exclude each other"
        raise typer.BadParameter(message)
    return Form.CSV if as_csv else Form.JSON if as_json else Form.TABLE


def _as_kept(id_: str | None) -> str | None:
    """The id as the ledger stores it. A very long id is stored as a digest; it would not fit into a URL."""
    from app.domain.identity.kept_ids import kept_id

    return id_ and kept_id(id_)


def _line(by: Sequence[By] | None, request: str | None) -> By:
    if by and (len(by) > 1 or request is not None):
        message = "give it only once" if len(by) > 1 else "leave it out: --request shows one call"
        raise typer.BadParameter(message, param_hint="--by")
    return by[0] if by else By.CLIENT if request is None else By.REQUEST


def _book(*, demo: bool, everything: bool) -> str | None:
    if demo and everything:
        message = "--demo and --all exclude each other"
        raise typer.BadParameter(message)
    return "demo" if demo else "all" if everything else None


def _checked_outcome(text: str | None) -> str | None:
    from app.domain.records import Outcome

    if text is not None and text not in set(Outcome):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(Outcome)}", param_hint="--outcome")
    return text


def check_span(since: str | None, until: str | None) -> None:
    """Raise typer.BadParameter unless both are times in the right order."""
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


def _sum(values: Iterable[object]) -> object:
    from decimal import Decimal

    known = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in known):
        return format(sum((Decimal(str(value)) for value in known), Decimal(0)).normalize(), "f")
    return sum(value for value in known if isinstance(value, int)) if known else None
