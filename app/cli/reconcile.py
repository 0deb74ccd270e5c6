"""`weighbridge reconcile`: compares our ledger with upstream's own records.

With a management key it compares tokens and dollars by day and model. Without one, it compares what upstream tells the
server's own key: the dollars of this day, week and month. The management key is read here and sent to upstream only.
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


class StatementSource(StrEnum):
    """Whose form upstream's statements have."""

    OPENROUTER = "openrouter"
    OPENAI = "openai"


@dataclass(slots=True, frozen=True)
class ReconcileRequest:
    """What to reconcile. `since` is a UTC day; `key_hash` and `project` narrow upstream's statement."""

    since: date
    tolerance: Fraction
    management_key_file: Path | None
    books: StatementSource | None
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
        StatementSource | None,
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
    wanted = ReconcileRequest(_day(since), _share(tolerance), management_key_file, books, key_hash, project, upstream)

    async def work(admin: "HttpClient") -> bool:
        return await _reconcile(admin, wanted, as_json=as_json)

    if not run_admin(work, config):
        raise typer.Exit(1)


async def _reconcile(admin: "HttpClient", wanted: ReconcileRequest, *, as_json: bool) -> bool:
    """Print the result. Returns whether the records agree."""
    from app.cli.admin_client import call
    from app.cli.reconcile_output import print_difference
    from app.cli.reconcile_windows import reconcile_windows, warn_of_missing_days

    upstream = await call(admin, "GET", "/upstream")
    kind = wanted.books or (StatementSource.OPENAI if upstream["name"] == "openai" else StatementSource.OPENROUTER)
    key = _management_key(wanted.management_key_file, kind)
    if key is None:
        typer.echo(
            f"No management key ({_VARIABLES[kind]} or --management-key-file): only the sums are compared.", err=True
        )
        return await reconcile_windows(admin, upstream["name"], wanted.since, wanted.tolerance, as_json=as_json)
    statement = await _statement(upstream["base_url"], key, kind, wanted)
    told = (await call(admin, "GET", "/upstream", params={"spending": "true"}))["spending"]
    records_since = None if told is None else told["since"]
    warn_of_missing_days(records_since, wanted.since)
    result = await _compared(admin, upstream["name"], statement, wanted, records_since)
    records = await _explaining_records(admin, upstream["name"], result, statement, wanted.since)
    print_difference(result, records, statement.credits, since=wanted.since, as_json=as_json)
    return result.within


async def _statement(base_url: str, key: str, kind: StatementSource, wanted: ReconcileRequest) -> "AccountStatement":
    from app.cli.admin_client import CommandFailedError
    from app.upstream.api.client import UpstreamApi, UpstreamQueryFailed
    from app.upstream.api.statements import openai_statement, openrouter_statement

    api = UpstreamApi(wanted.upstream.target(base_url), key)
    try:
        if kind is StatementSource.OPENAI:
            return await openai_statement(api, wanted.since, wanted.project)
        return await openrouter_statement(api, wanted.since, wanted.key_hash)
    except UpstreamQueryFailed as error:
        hint = " (does it take this management key?)" if error.status in (401, 403) else ""
        raise CommandFailedError(f"{error}{hint}") from None
    finally:
        await api.close()


async def _compared(
    admin: "HttpClient",
    upstream: str,
    statement: "AccountStatement",
    wanted: ReconcileRequest,
    records_since: str | None,
) -> "Reconciliation":
    """Compare both sides for the same days: whole ones, and today only if upstream's statement has it."""
    from app.domain.money.reconciliation import reconcile as compare

    until = _today() + timedelta(days=1) if statement.has_day(_today().isoformat()) else _today()
    ours = await _our_sums(admin, upstream, (wanted.since, until), statement.names, records_since)
    theirs = {cell: sums for cell, sums in statement.sheet.items() if cell[0] < until.isoformat()}
    return compare(ours, theirs, wanted.tolerance)


async def _our_sums(
    admin: "HttpClient", upstream: str, days: tuple[date, date], names: Mapping[str, str], records_since: str | None
) -> "Sheet":
    """Our sums for this upstream only: the ledger may also hold demo calls and calls to other providers."""
    from app.cli.admin_client import call
    from app.cli.reconcile_windows import comparable_since
    from app.domain.money.amounts import parse_usd
    from app.domain.money.reconciliation import Sums, sheet_of

    lines = []
    for number in range((days[1] - days[0]).days):
        day = days[0] + timedelta(days=number)
        span = {"since": comparable_since(day, records_since), "until": (day + timedelta(days=1)).isoformat()}
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


async def _explaining_records(
    admin: "HttpClient", upstream: str, result: "Reconciliation", statement: "AccountStatement", since: date
) -> list[dict[str, Any]]:
    """Our records of differing models with unknown or estimated usage: they could explain the difference."""
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
    """Whether a call may have cost something: not one that was refused, but one whose connection broke."""
    if record["usage_source"] not in ("none", "estimated") or record["outcome"] == "rejected":
        return False
    refused: bool = record["outcome"] == "upstream_error" and record["error_type"] != "upstream_protocol_error"
    return not refused


def _management_key(file: Path | None, kind: StatementSource) -> str | None:
    """The management key from the file, else from the environment, or None. Exits 2 if it cannot be a key."""
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
        message = f"{text!r} is not a percentage: write it as 0.5%"
        raise typer.BadParameter(message, param_hint="--tolerance")
    return share
