"""Upstream, for operators: its name and address, and what the server's key has spent there."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.domain.money.amounts import format_usd
from app.domain.record_json import rfc3339
from app.gateway.ports import UpstreamAccount, UpstreamSpending
from app.web.credentials import require_admin

if TYPE_CHECKING:
    from app.gateway.key_health import KeyCheck

router = APIRouter(prefix="/admin/api/upstream", tags=["admin"], dependencies=[Depends(require_admin)])


@router.get("")
async def upstream(request: Request, *, spending: Annotated[bool, Query()] = False) -> dict[str, Any]:
    """Name and address. With `spending`, also what the key has spent as upstream says, or in `problem` why not."""
    shown: dict[str, Any] = dict(request.app.state.upstream)
    if not spending:
        return shown
    account: UpstreamAccount | None = request.app.state.account
    if account is None:
        return {**shown, "spending": None, "problem": "no upstream key is loaded"}
    try:
        return {**shown, "spending": _shown(await account.spending()), "problem": None}
    except Exception as error:  # noqa: BLE001 - the port promises a message for operators
        return {**shown, "spending": None, "problem": str(error) or type(error).__name__}


@router.get("/key")
async def key(request: Request) -> dict[str, bool | None]:
    """Whether upstream accepts the server's key. Makes a free call. Null when upstream does not say."""
    check: KeyCheck | None = request.app.state.key_check
    return {"taken": None if check is None else await check.takes_key()}


def _shown(spending: UpstreamSpending) -> dict[str, str | None]:
    amounts = {name: getattr(spending, name) for name in ("day", "week", "month", "total")}
    shown = {f"{name}_usd": None if amount is None else format_usd(amount) for name, amount in amounts.items()}
    return {**shown, "since": None if spending.since is None else rfc3339(spending.since)}
