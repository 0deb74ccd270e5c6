"""The audit log over HTTP: routes write an entry for each change, and operators read them."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.domain.record_json import rfc3339
from app.gateway.audit import AuditEntry, AuditLog
from app.web.credentials import is_local, require_admin
from app.web.routes.usage_report import moment

router = APIRouter(prefix="/admin/api/audit", tags=["admin"], dependencies=[Depends(require_admin)])

ACTOR_HEADER = "x-weighbridge-actor"
LONGEST_ACTOR = 80
MOST_ENTRIES = 10_000


@router.get("")
async def audit(
    request: Request,
    since: Annotated[str | None, Query(description="24h, 7d, or a date")] = None,
    until: Annotated[str | None, Query(description="a date, exclusive")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 1000,
) -> dict[str, Any]:
    """The newest entries of the audit log, oldest first."""
    now = request.app.state.clock.wall_us()
    log: AuditLog = request.app.state.audit
    return {"entries": [_shown(entry) for entry in await log.entries(moment(since, now), moment(until, now), limit)]}


async def note(request: Request, action: str, subject: str, **detail: object) -> None:
    """Write an entry for a change that this request has made. Details that are None are left out."""
    log: AuditLog = request.app.state.audit
    known = {name: value for name, value in detail.items() if value is not None}
    await log.note(_actor(request), action, subject, known)


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The fields that differ, as `{"rpm": {"from": null, "to": 60}}`."""
    return {name: {"from": before.get(name), "to": value} for name, value in after.items() if before.get(name) != value}


def _actor(request: Request) -> str:
    """Who made the request. A command names its user; we believe it on this machine, since it has the admin key."""
    said = request.headers.get(ACTOR_HEADER, "")
    if is_local(request):
        return said[:LONGEST_ACTOR] if said and said.isprintable() and said.isascii() else "admin"
    client = request.scope.get("client")
    return f"admin@{client[0]}" if client else "admin"


def _shown(entry: AuditEntry) -> dict[str, Any]:
    return {
        "audit_id": entry.audit_id,
        "at": rfc3339(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": _detail(entry.detail),
    }


def _detail(text: str | None) -> object:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text  # it was too long and has been cut
