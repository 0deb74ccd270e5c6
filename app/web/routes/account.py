"""A caller's own account: its key, its limits and its usage."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request

from app.domain.money.amounts import NANOUSD_PER_USD
from app.domain.money.budgets import Unit
from app.domain.money.windows import Period, window_of
from app.domain.record_json import rfc3339
from app.gateway.gateway import Ticket
from app.gateway.limiter import BudgetReading, Holder, HolderReading
from app.gateway.usage_query import UsageQuery
from app.web.credentials import Caller
from app.web.routes.caller_figures import CallerFigures
from app.web.routes.standing import budgets_shown, limits_shown, rates_shown
from app.web.routes.terms import terms_service
from app.web.routes.usage_report import moment, report_row

if TYPE_CHECKING:
    from app.gateway.ports import Reports

router = APIRouter(tags=["account"])

_RESETS = {Period.DAY: "daily", Period.WEEK: "weekly", Period.MONTH: "monthly", Period.TOTAL: None}

Readings = list[tuple[Holder, HolderReading]]


@router.get("/key")
async def key(request: Request, caller: Caller) -> dict[str, Any]:
    """The caller's client and key, in the shape of OpenRouter's `GET /key`, and all its limits.

    The `limit` fields show the dollar budget with the least left, of the client or of its group.
    """
    figures, now = _admitted(request, caller), request.app.state.clock.wall_us()
    begins = {period: window_of(period, now).begins_at for period in Period}

    async def spent() -> dict[Period, float]:
        return {period: await _spent(request, caller.client, since) for period, since in begins.items()}

    usage = await figures.get(caller.client, ("key", *begins.values()), spent)
    readings = await terms_service(request).readings(caller.client)
    tightest = _tightest(readings)
    return {
        "data": {
            "label": caller.client,
            "client": caller.client,
            "key_id": caller.key_id,
            "usage": usage[Period.TOTAL],
            "usage_daily": usage[Period.DAY],
            "usage_weekly": usage[Period.WEEK],
            "usage_monthly": usage[Period.MONTH],
            "limit": None if tightest is None else tightest.budget.amount / NANOUSD_PER_USD,
            "limit_remaining": None if tightest is None else tightest.left / NANOUSD_PER_USD,
            "limit_reset": None if tightest is None else _RESETS[tightest.budget.period],
            "is_free_tier": False,
            "limits": _limits(readings),
        }
    }


@router.get("/usage")
async def usage(
    request: Request,
    caller: Caller,
    since: Annotated[str | None, Query(description="24h, 7d, or a date; default 30d")] = None,
    until: Annotated[str | None, Query(description="a date, exclusive")] = None,
) -> dict[str, Any]:
    """The caller's usage in all, by day and by model, and all its limits."""
    figures, now = _admitted(request, caller), request.app.state.clock.wall_us()
    start, end = moment(since or "30d", now), moment(until, now)

    async def rows(by: str | None) -> list[dict[str, Any]]:
        reports: Reports = request.app.state.reports
        found = await reports.totals(UsageQuery(start, end, caller.client, by=by, book=request.app.state.book))
        return [report_row(row, by) for row in found]

    async def report() -> dict[str, Any]:
        totals = await rows(None)
        return {
            "client": caller.client,
            "since": rfc3339(start) if start is not None else None,
            "total": totals[0] if totals else None,
            "by_day": await rows("day"),
            "by_model": await rows("model"),
        }

    report_made = await figures.get(caller.client, ("usage", since, until), report)
    return {**report_made, "limits": _limits(await terms_service(request).readings(caller.client))}


def _admitted(request: Request, caller: Ticket) -> CallerFigures:
    """Raises RateLimited."""
    figures: CallerFigures = request.app.state.figures
    figures.admit(caller.client)
    return figures


def _limits(readings: Readings) -> dict[str, Any]:
    """The limits of the `client` and of its `group`, each only if it has any."""
    return {holder.kind: _standing(holder, reading) for holder, reading in readings}


def _standing(holder: Holder, reading: HolderReading) -> dict[str, Any]:
    return {
        **limits_shown(holder.limits),
        "name": holder.own_name,
        "calls": reading.concurrency,
        "rates": rates_shown(reading.rates),
        "budgets": budgets_shown(reading.budgets),
    }


def _tightest(readings: Readings) -> BudgetReading | None:
    in_dollars = [b for _, reading in readings for b in reading.budgets if b.budget.unit is Unit.USD]
    return min(in_dollars, key=lambda reading: reading.left, default=None)


async def _spent(request: Request, client: str, since: int) -> float:
    reports: Reports = request.app.state.reports
    rows = await reports.totals(UsageQuery(since, client=client, book=request.app.state.book))
    return float(sum(row["cost_nanousd"] or 0 for row in rows) / NANOUSD_PER_USD)
