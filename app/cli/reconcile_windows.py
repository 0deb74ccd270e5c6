"""Compares the dollars that upstream reports to any key: those of this day, week and month (UTC)."""

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
    """Compare and print the dollars of each window. Windows that begin before `since` do not affect the result."""
    found = await call(admin, "GET", "/upstream", params={"spending": "true"})
    if found["spending"] is None:
        raise CommandFailedError(f"upstream did not tell what its key has spent: {found['problem']}")
    warn_of_missing_days(found["spending"]["since"], min(since, _windows()[-1][1]))
    rows = [await _compared(admin, upstream, window, found["spending"], tolerance) for window in _windows()]
    for row in rows:
        row["decides"] = row["since"] >= since.isoformat() and row["within"] is not None
    within = all(row["within"] for row in rows if row["decides"])
    if not any(row["decides"] for row in rows):
        raise CommandFailedError("upstream reports no window that could be compared")
    if as_json:
        print_json({"since": since.isoformat(), "within": within, "windows": rows})
    else:
        print_table(_COLUMNS, [_line(row) for row in rows], numbers=frozenset(("ours", "upstream", "difference")))
        print("The sums agree." if within else f"The sums differ by more than {float(tolerance * 100):g}%.")
    return within


def comparable_since(begin: date, records_since: str | None) -> str:
    """The first time that can be compared: the day, or where upstream's records begin if that is later."""
    return max(begin.isoformat(), records_since or "")


def warn_of_missing_days(records_since: str | None, begin: date) -> None:
    """Print a warning if upstream's records begin later than `begin`."""
    if records_since is not None and records_since > begin.isoformat():
        text = f"Upstream's records begin at {records_since[:19]}Z: calls before that are not compared."
        typer.echo(text, err=True)


def _windows() -> list[tuple[str, date]]:
    today = datetime.now(UTC).date()
    return [("day", today), ("week", today - timedelta(days=today.weekday())), ("month", today.replace(day=1))]


async def _compared(
    admin: "HttpClient", upstream: str, span: tuple[str, date], spending: Mapping[str, str | None], tolerance: Fraction
) -> dict[str, Any]:
    window, begin = span
    since = comparable_since(begin, spending["since"])
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
    verdict = {True: "agrees", False: "differs", None: "not found"}[row["within"]]
    if not row["decides"] and row["within"] is False:
        verdict = "differs, but begins before --since"
    shown = (row[name] for name in ("window", "since", "ours_usd", "upstream_usd", "difference_usd"))
    return [*shown, verdict]
