"""A caller's own: which key it came with, what it has used."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.domain.money import format_usd
from app.gateway.ports import Reports, UsageQuery
from app.web.credentials import Caller
from app.web.usage_report import moment, report_row

router = APIRouter(tags=["account"])


@router.get("/key")
async def key(request: Request, caller: Caller) -> dict[str, Any]:
    """The caller's client and key, and its spending so far, in the shape of OpenRouter's `GET /key`."""
    reports: Reports = request.app.state.reports
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = today.replace(day=1)

    async def spent(since: datetime | None) -> float:
        start = None if since is None else int(since.timestamp()) * 1_000_000
        rows = await reports.totals(UsageQuery(since=start, client=caller.client))
        return float(format_usd(_sum(rows, "cost_nanousd")))

    return {
        "data": {
            "label": caller.client,
            "client": caller.client,
            "key_id": caller.key_id,
            "usage": await spent(None),
            "usage_daily": await spent(today),
            "usage_monthly": await spent(month),
            "limit": None,
            "limit_remaining": None,
            "limit_reset": None,
            "is_free_tier": False,
        }
    }


@router.get("/usage")
async def usage(
    request: Request,
    caller: Caller,
    since: Annotated[str | None, Query(description="24h, 7d, or a date; default 30d")] = None,
    until: Annotated[str | None, Query(description="a date, exclusive")] = None,
) -> dict[str, Any]:
    """The caller's usage: in all, by day and by model."""
    reports: Reports = request.app.state.reports
    now = request.app.state.clock.wall_us()
    start, end = moment(since or "30d", now), moment(until, now)

    async def rows(by: str | None) -> list[dict[str, Any]]:
        found = await reports.totals(UsageQuery(since=start, until=end, client=caller.client, by=by))
        return [report_row(row, by) for row in found]

    totals = await rows(None)
    return {
        "client": caller.client,
        "since": datetime.fromtimestamp(start / 1_000_000, UTC).isoformat() if start is not None else None,
        "total": totals[0] if totals else None,
        "by_day": await rows("day"),
        "by_model": await rows("model"),
    }


def _sum(rows: Sequence[Mapping[str, Any]], field: str) -> int:
    return sum(row[field] or 0 for row in rows)
