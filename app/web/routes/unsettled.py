"""The admin API's routes for calls of unknown cost."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from app.domain.errors import InvalidRequest
from app.domain.money.amounts import format_usd, parse_usd
from app.domain.record_json import record_fields, rfc3339
from app.domain.records import Record
from app.gateway.unsettled import UnsettledCalls
from app.web.credentials import require_admin
from app.web.routes.audit import note

router = APIRouter(prefix="/admin/api/limits", tags=["admin"], dependencies=[Depends(require_admin)])

Tokens = Annotated[int, Field(ge=0, lt=2**53, strict=True)]


class SettleRequest(BaseModel):
    """What a call cost, in decimal dollars. Token counts that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid")
    request_id: Annotated[str, Field(min_length=1, max_length=256)]
    usd: str
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None


def _unsettled(request: Request) -> UnsettledCalls:
    unsettled: UnsettledCalls = request.app.state.unsettled
    return unsettled


@router.get("/unsettled")
async def list_unsettled(request: Request, client: Annotated[str | None, Query()] = None) -> dict[str, Any]:
    """Calls that went upstream and whose usage is unknown, with the budget that they hold; oldest first."""
    return {"calls": [_shown(record) for record in await _unsettled(request).held(client)]}


@router.post("/settle")
async def settle(request: Request, settlement: SettleRequest) -> dict[str, Any]:
    """Set a call's cost as the operator says. Returns its record."""
    cost = parse_usd(settlement.usd.removeprefix("$"))
    if cost is None:
        raise InvalidRequest(f"{settlement.usd[:40]!r} is not an amount of US dollars.", param="usd")
    record = await _unsettled(request).settle(
        settlement.request_id, cost, settlement.input_tokens, settlement.output_tokens
    )
    await note(
        request, "call.settle", record.request_id, client=record.client, **settlement.model_dump(exclude={"request_id"})
    )
    return record_fields(record)


def _shown(record: Record) -> dict[str, Any]:
    cost = record.cost_nanousd
    return {
        "request_id": record.request_id,
        "started_at": rfc3339(record.started_at),
        "client": record.client,
        "model": record.model_served or record.model_requested,
        "stream": record.stream,
        "outcome": record.outcome.value,
        "error_type": record.error_type,
        "generation_id": record.generation_id,
        "held_tokens": record.total_tokens,
        "held_usd": None if cost is None else format_usd(cost),
    }
