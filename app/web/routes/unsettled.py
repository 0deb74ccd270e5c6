"""The admin API's part about calls whose cost nobody has told yet."""

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


class Told(BaseModel):
    """What a call cost, in decimal dollars. Tokens that are left out stay as they are counted."""

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
    """Calls that went out whole and of which nobody has told anything, and what they hold of budgets; oldest first."""
    return {"calls": [_shown(record) for record in await _unsettled(request).held(client)]}


@router.post("/settle")
async def settle(request: Request, told: Told) -> dict[str, Any]:
    """Count a call by what an operator says that it cost. Gives its record."""
    cost = parse_usd(told.usd.removeprefix("$"))
    if cost is None:
        raise InvalidRequest(f"{told.usd[:40]!r} is not an amount of US dollars.", param="usd")
    record = await _unsettled(request).settle(told.request_id, cost, told.input_tokens, told.output_tokens)
    await note(
        request, "call.settle", record.request_id, client=record.client, **told.model_dump(exclude={"request_id"})
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
