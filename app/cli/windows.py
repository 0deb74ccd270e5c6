"""The windows that upstream tells any key of: what it has spent in the day, the week and the month under way (UTC)."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import typer

from app.cli.admin_client import CommandFailedError, call
from app.cli.output import print_json, print_table
from app.domain.money.amounts import format_usd, parse_usd

if TYPE_CHECKING:
    from app.upstream.api.http_client import HttpClient

_COLUMNS = ("window", "since", "ours", "upstream", "difference", "verdict")


async def reconcile_windows(
    admin: "HttpClient", upstream: str, since: date, tolerance: Fraction, *, as_json: bool
) -> bool:
    """Compare the dollars of each window; print them. Those that begin before `since` are shown, but decide nothing."""
    told = await call(admin, "GET", "/upstream", params={"spending": "true"})
    if told["spending"] is None:
        raise CommandFailedError(f"upstream did not tell what its key has spent: {told['problem']}")
    say_where_books_begin(told["spending"]["since"], min(since, _windows()[-1][1]))
    rows = [await _compared(admin, upstream, window, told["spending"], tolerance) for window in _windows()]
    for row in rows:
        row["decides"] = row["since"] >= since.isoformat() and row["within"] is not None
    within = all(row["within"] for row in rows if row["decides"])
    if not any(row["decides"] for row in rows):
        raise CommandFailedError("upstream tells of no window that could be compared")
    if as_json:
        print_json({"since": since.isoformat(), "within": within, "windows": rows})
    else:
        print_table(_COLUMNS, [_line(row) for row in rows], numbers=frozenset(("ours", "upstream", "difference")))
        print("The sums agree." if within else f"The sums differ by more than {float(tolerance * 100):g}%.")
    return within


def later(begin: date, books_since: str | None) -> str:
    """From when on calls can be compared: from the day on, or from where upstream's books begin."""
    return max(begin.isoformat(), books_since or "")


def say_where_books_begin(books_since: str | None, begin: date) -> None:
    """Tell the reader when upstream's books are shorter than what is asked for."""
    if books_since is not None and books_since > begin.isoformat():
        said = f"Upstream keeps books since {books_since[:19]}Z only: calls before that are not compared."
        typer.echo(said, err=True)


def _windows() -> list[tuple[str, date]]:
    today = datetime.now(UTC).date()
    return [("day", today), ("week", today - timedelta(days=today.weekday())), ("month", today.replace(day=1))]


async def _compared(
    admin: "HttpClient", upstream: str, span: tuple[str, date], spending: Mapping[str, str | None], tolerance: Fraction
) -> dict[str, Any]:
    window, begin = span
    since = later(begin, spending["since"])
    (row,) = (await call(admin, "GET", "/usage", params={"since": since, "upstream": upstream}))["rows"]
    ours, theirs = parse_usd(row["cost_usd"]) or 0, parse_usd(spending[f"{window}_usd"])
    within = None if theirs is None else abs(theirs - ours) <= tolerance * max(ours, theirs)
    return {
        "window": window,
        "since": begin.isoformat(),
        "ours_usd": format_usd(ours),
        "upstream_usd": None if theirs is None else format_usd(theirs),
        "difference_usd": None if theirs is None else format_usd(theirs - ours),
        "within": within,
    }


def _line(row: Mapping[str, Any]) -> list[object]:
    verdict = {True: "agrees", False: "differs", None: "not told"}[row["within"]]
    if not row["decides"] and row["within"] is False:
        verdict = "differs, but begins before --since"
    shown = (row[name] for name in ("window", "since", "ours_usd", "upstream_usd", "difference_usd"))
    return [*shown, verdict]
