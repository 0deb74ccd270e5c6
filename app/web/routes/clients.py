"""The admin API's routes for clients: list, show, delete, restore."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request

from app.domain.money.amounts import format_usd
from app.domain.money.windows import Period, window_of
from app.domain.record_json import rfc3339
from app.gateway.clients.keys import KeyService
from app.gateway.usage_query import UsageQuery
from app.web.credentials import require_admin
from app.web.routes.admin import key_shown
from app.web.routes.audit import note
from app.web.routes.terms import client_terms_shown, standing_shown, terms_service
from app.web.routes.usage_report import report_row

if TYPE_CHECKING:
    from app.gateway.ports import Reports

router = APIRouter(prefix="/admin/api/clients", tags=["admin"], dependencies=[Depends(require_admin)])


@router.get("")
async def list_clients(request: Request) -> dict[str, Any]:
    """All clients, with what each has spent in the current month (UTC) and in all."""
    month = window_of(Period.MONTH, request.app.state.clock.wall_us())
    this_month, in_all = await _spent(request, month.begins_at), await _spent(request, None)
    shown = []
    for client in await _clients(request).list_clients():
        spent = {"month_usd": this_month.get(client["name"], "0"), "total_usd": in_all.get(client["name"], "0")}
        shown.append({**_shown(client), "spent": spent})
    return {"clients": shown}


@router.get("/{name}")
async def show_client(request: Request, name: str) -> dict[str, Any]:
    """One client: its terms, the state of its budgets, its keys, and its usage in all."""
    now = request.app.state.clock.wall_us()
    terms_service(request).client(name)
    client = next(c for c in await _clients(request).list_clients() if c["name"] == name)
    reports: Reports = request.app.state.reports
    totals = await reports.totals(UsageQuery(client=name, book=request.app.state.book))
    keys = [key_shown(key, now) for key in await _clients(request).list_keys() if key.client == name]
    usage = report_row(totals[0]) if totals else None
    readings = await terms_service(request).readings(name)
    standing = {holder.kind: standing_shown(reading) for holder, reading in readings}
    return {**_shown(client), "standing": standing, "keys": keys, "usage": usage}


@router.delete("/{name}")
async def delete_client(request: Request, name: str) -> dict[str, Any]:
    """Delete a client and revoke all its keys. Its records stay, so its name cannot be used again."""
    clients, now = _clients(request), request.app.state.clock.wall_us()
    await terms_service(request).delete_client(name)
    good = [key.key_id for key in await clients.list_keys() if key.client == name and key.good(now)]
    for key_id in good:
        await clients.revoke_key(key_id)
    await note(request, "client.delete", name, revoked_keys=good)
    return {"name": name, "deleted": True, "revoked_keys": good}


@router.post("/{name}/restore")
async def restore_client(request: Request, name: str) -> dict[str, Any]:
    """Restore a deleted client with its terms and its spending. Its keys stay revoked."""
    await terms_service(request).restore_client(name)
    await note(request, "client.restore", name)
    return {"name": name, "deleted": False}


async def _spent(request: Request, since: int | None) -> dict[str, str]:
    """Dollars spent by client. Calls of unknown cost count as zero."""
    reports: Reports = request.app.state.reports
    rows = await reports.totals(UsageQuery(since, by="client", book=request.app.state.book))
    return {row["client"]: format_usd(row["cost_nanousd"] or 0) for row in rows}


def _clients(request: Request) -> KeyService:
    clients: KeyService = request.app.state.clients
    return clients


def _shown(client: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in client.items() if name != "terms"}
    return {**plain, "created_at": rfc3339(client["created_at"]), **client_terms_shown(client["terms"])}
