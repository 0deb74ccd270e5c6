"""`weighbridge reconcile`: our ledger against upstream's own books.

With a management key: tokens and dollars by day and model. Without one, what upstream tells the server's own key: the
dollars of the day, the week and the month under way. The management key is read here and goes to upstream only.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from app.domain.money.reconciliation import Reconciliation, Sheet
    from app.settings.upstream import UpstreamSettings
    from app.upstream.api.http_client import HttpClient
    from app.upstream.api.statements import AccountStatement

_DAY_MICROSECONDS = 86_400_000_000
_VARIABLES = {"openrouter": "OPENROUTER_MANAGEMENT_KEY", "openai": "OPENAI_ADMIN_KEY"}


class BooksOf(StrEnum):
    """Whose statements upstream gives."""

    OPENROUTER = "openrouter"
    OPENAI = "openai"


@dataclass(slots=True, frozen=True)
class Wish:
    """What is to be reconciled. `since` is a UTC day; `key_hash` and `project` narrow upstream's statement."""

    since: date
    tolerance: Fraction
    management_key_file: Path | None
    books: BooksOf | None
    key_hash: str | None
    project: str | None
    upstream: "UpstreamSettings"


def reconcile(
    since: Annotated[str, typer.Option(metavar="7d|DATE", help="The first day to compare (UTC, whole days).")] = "7d",
    tolerance: Annotated[
        str, typer.Option(metavar="PERCENT", help="How far the two may differ and still agree.")
    ] = "0.5%",
    management_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File with upstream's management key. Without a management key only sums are compared."
        ),
    ] = None,
    books: Annotated[
        BooksOf | None,
        typer.Option(
            metavar="openrouter|openai", help="Whose billing API upstream has. Without it, the upstream's name decides."
        ),
    ] = None,
    key_hash: Annotated[
        str | None, typer.Option(metavar="HASH", help="Only this key of the OpenRouter account.")
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this project of the OpenAI organization.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Compare the ledger with upstream's own billing records. Exits with 0 if they agree, with 1 if not."""
    from app.cli.admin_client import run_admin
    from app.cli.config import load_or_exit

    upstream = load_or_exit(config).upstream
    wish = Wish(_day(since), _share(tolerance), management_key_file, books, key_hash, project, upstream)

    async def work(admin: "HttpClient") -> bool:
        return await _reconcile(admin, wish, as_json=as_json)

    if not run_admin(work, config):
        raise typer.Exit(1)


async def _reconcile(admin: "HttpClient", wish: Wish, *, as_json: bool) -> bool:
    """Whether the books agree; the result is printed."""
    from app.cli.admin_client import call
    from app.cli.difference import print_difference
    from app.cli.windows import reconcile_windows, say_where_books_begin

    upstream = await call(admin, "GET", "/upstream")
    kind = wish.books or (BooksOf.OPENAI if upstream["name"] == "openai" else BooksOf.OPENROUTER)
    key = _management_key(wish.management_key_file, kind)
    if key is None:
        typer.echo(
            f"No management key ({_VARIABLES[kind]} or --management-key-file): only the sums are compared.", err=True
        )
        return await reconcile_windows(admin, upstream["name"], wish.since, wish.tolerance, as_json=as_json)
    statement = await _statement(upstream["base_url"], key, kind, wish)
    told = (await call(admin, "GET", "/upstream", params={"spending": "true"}))["spending"]
    books_since = None if told is None else told["since"]
    say_where_books_begin(books_since, wish.since)
    result = await _compared(admin, upstream["name"], statement, wish, books_since)
    suspects = await _suspects(admin, upstream["name"], result, statement, wish.since)
    print_difference(result, suspects, statement.credits, since=wish.since, as_json=as_json)
    return result.within


async def _statement(base_url: str, key: str, kind: BooksOf, wish: Wish) -> "AccountStatement":
    from app.cli.admin_client import CommandFailedError
    from app.upstream.api.client import UpstreamApi, UpstreamQueryFailed
    from app.upstream.api.statements import openai_statement, openrouter_statement

    api = UpstreamApi(wish.upstream.target(base_url), key)
    try:
        if kind is BooksOf.OPENAI:
            return await openai_statement(api, wish.since, wish.project)
        return await openrouter_statement(api, wish.since, wish.key_hash)
    except UpstreamQueryFailed as silent:
        hint = " (does it take this management key?)" if silent.status in (401, 403) else ""
        raise CommandFailedError(f"{silent}{hint}") from None
    finally:
        await api.close()


async def _compared(
    admin: "HttpClient", upstream: str, statement: "AccountStatement", wish: Wish, books_since: str | None
) -> "Reconciliation":
    """Both sides for the same days: whole ones, and the one under way only if upstream tells of it."""
    from app.domain.money.reconciliation import reconcile as compare

    until = _today() + timedelta(days=1) if statement.has_day(_today().isoformat()) else _today()
    ours = await _our_sheet(admin, upstream, (wish.since, until), statement.names, books_since)
    theirs = {cell: sums for cell, sums in statement.sheet.items() if cell[0] < until.isoformat()}
    return compare(ours, theirs, wish.tolerance)


async def _our_sheet(
    admin: "HttpClient", upstream: str, days: tuple[date, date], names: Mapping[str, str], books_since: str | None
) -> "Sheet":
    """What went to this upstream; the ledger of somebody who has tried the demo, or another provider, has more."""
    from app.cli.admin_client import call
    from app.cli.windows import later
    from app.domain.money.amounts import parse_usd
    from app.domain.money.reconciliation import Sums, sheet_of

    lines = []
    for number in range((days[1] - days[0]).days):
        day = days[0] + timedelta(days=number)
        span = {"since": later(day, books_since), "until": (day + timedelta(days=1)).isoformat()}
        query = {"by": "model", "upstream": upstream, **span}
        for row in (await call(admin, "GET", "/usage", params=query))["rows"]:
            sums = Sums(
                requests=row["requests"] - row["rejected"],
                input_tokens=row["input_tokens"] or 0,
                output_tokens=row["output_tokens"] or 0,
                cost_nanousd=parse_usd(row["cost_usd"]) or 0,
            )
            model = row["model"] or "(unknown)"
            if any(sums):
                lines.append(((day.isoformat(), names.get(model, model)), sums))
    return sheet_of(lines)


async def _suspects(
    admin: "HttpClient", upstream: str, result: "Reconciliation", statement: "AccountStatement", since: date
) -> list[dict[str, Any]]:
    """Our records of the models that differ whose usage is unknown or estimated: they could explain a difference."""
    import json

    from app.cli.admin_client import CommandFailedError, lines_of

    outside = set(result.outside)
    found = []
    query = {"by": "request", "upstream": upstream, "since": since.isoformat()}
    if not outside:
        return []
    async with admin.stream("GET", "/admin/api/usage", params=query) as answer:
        if answer.is_error:
            raise CommandFailedError(f"the server answered HTTP {answer.status_code}")
        async for line in lines_of(answer):
            record: dict[str, Any] = json.loads(line)
            model = record["model_served"] or record["model_requested"] or "(unknown)"
            if statement.names.get(model, model) in outside and _could_explain(record):
                found.append(record)
    return found


def _could_explain(record: Mapping[str, Any]) -> bool:
    """A refusal weighs nothing, ours or upstream's; a connection that broke before the answer may weigh something."""
    if record["usage_source"] not in ("none", "estimated") or record["outcome"] == "rejected":
        return False
    refused: bool = record["outcome"] == "upstream_error" and record["error_type"] != "upstream_protocol_error"
    return not refused


def _management_key(file: Path | None, kind: BooksOf) -> str | None:
    """From the file, else from the environment, or None. Exits 2 when what is there cannot be a key."""
    from app.settings.credentials import Candidate, settle, variable_candidates

    if file is not None:
        candidates = [Candidate.in_file("--management-key-file", file)]
    else:
        candidates = [*settle([*variable_candidates((_VARIABLES[kind],), os.environ)])]
    for candidate in candidates:
        if candidate.secret is None:
            typer.echo(f"weighbridge: {candidate.origin}: {candidate.fault}", err=True)
            raise typer.Exit(2)
        return candidate.secret.reveal()
    return None


def _today() -> date:
    return datetime.now(UTC).date()


def _day(text: str) -> date:
    from app.domain.spans import parse_moment

    try:
        moment = parse_moment(text, time.time_ns() // 1000)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    day = datetime.fromtimestamp(moment // _DAY_MICROSECONDS * 86_400, UTC).date()
    if day > _today():
        message = f"{text} is not in the past"
        raise typer.BadParameter(message, param_hint="--since")
    return day


def _share(text: str) -> Fraction:
    number = text.strip().removesuffix("%")
    try:
        share = Fraction(number) / 100
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share <= 1 or (share and not text.strip().endswith("%")):
        message = f"{text!r} is no percentage: write it as 0.5%"
        raise typer.BadParameter(message, param_hint="--tolerance")
    return share
