"""The admin API's routes for the terms of clients and groups."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from app.domain.disconnect import DisconnectPolicy
from app.domain.errors import InvalidRequest
from app.domain.money.budgets import Budget, Unit, parse_amount
from app.domain.money.limits import Limits
from app.domain.money.terms import ClientTerms, GroupTerms
from app.domain.money.windows import Period
from app.domain.record_json import rfc3339
from app.domain.request.model_patterns import check_pattern
from app.gateway.clients.terms_service import TermsService
from app.gateway.limiter import HolderReading
from app.gateway.ports import StoredClient, StoredGroup
from app.web.credentials import require_admin
from app.web.routes.audit import changes, note
from app.web.routes.standing import budgets_shown, limits_shown

router = APIRouter(prefix="/admin/api", tags=["admin"], dependencies=[Depends(require_admin)])

Count = Annotated[int, Field(gt=0, lt=2**53, strict=True)]


class GroupChange(BaseModel):
    """A change of a group's terms. Fields that are left out stay; null removes a limit.

    Budgets are by period, `budget_usd` in decimal dollars. Null in place of the budgets removes all of them.
    """

    model_config = ConfigDict(extra="forbid")
    rpm: Count | None = None
    tpm: Count | None = None
    concurrency: Count | None = None
    budget_usd: dict[Period, str | None] | None = None
    budget_tokens: dict[Period, Annotated[int, Field(ge=0, lt=2**53, strict=True)] | None] | None = None
    models: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None


class ClientChange(GroupChange):
    """A change of a client's terms: those of a group, and the fields that only clients have.

    `on_disconnect` is auto, cancel, drain or drain:SECONDS. With `let_run`, a disabled client's running calls go on.
    """

    on_disconnect: str | None = None
    safety_identifier: bool = False
    output_ceiling: Count | None = None
    hard_stop: bool = False
    group: str | None = None
    enabled: bool = True
    let_run: bool = False


def terms_service(request: Request) -> TermsService:
    """The application's terms service."""
    service: TermsService = request.app.state.terms_service
    return service


@router.patch("/clients/{name}")
async def change_client(request: Request, name: str, change: ClientChange) -> dict[str, Any]:
    """Change a client's terms."""
    disabled = not change.enabled if "enabled" in change.model_fields_set else None
    service = terms_service(request)
    before = _client(service.client(name))
    try:
        changed = await service.change_client(name, lambda terms: client_terms(terms, change), disabled=disabled)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    after = _client(changed)
    if after != before:
        await note(request, "client.set", name, **changes(before, after))
    return after


@router.get("/groups")
async def list_groups(request: Request) -> dict[str, Any]:
    """All groups."""
    service = terms_service(request)
    return {"groups": [_group(group, service) for group in service.groups]}


@router.get("/groups/{name}")
async def show_group(request: Request, name: str) -> dict[str, Any]:
    """One group, and the state of its budgets."""
    service = terms_service(request)
    reading = await service.group_reading(name)
    return {**_group(service.group(name), service), "standing": standing_shown(reading)}


@router.patch("/groups/{name}")
async def change_group(request: Request, name: str, change: GroupChange) -> dict[str, Any]:
    """Change a group's terms. Makes the group if it is new."""
    service = terms_service(request)
    before = next((_group(group, service) for group in service.groups if group.name == name), {})
    try:
        changed = await service.change_group(name, lambda terms: _group_terms(terms, change))
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    after = _group(changed, service)
    if after != before:
        await note(request, "group.set", name, **changes(before, after))
    return after


def client_terms_shown(terms: ClientTerms) -> dict[str, Any]:
    """The terms of a client as JSON."""
    return {
        **limits_shown(terms.limits),
        "models": None if terms.models is None else list(terms.models),
        "on_disconnect": str(terms.on_disconnect),
        "safety_identifier": terms.safety_identifier,
        "output_ceiling": terms.output_ceiling,
        "hard_stop": terms.hard_stop,
        "group": terms.group,
    }


def standing_shown(reading: HolderReading) -> dict[str, Any]:
    """The slots and budgets of a client or group, as JSON."""
    return {"concurrency": reading.concurrency, "budgets": budgets_shown(reading.budgets)}


def _client(client: StoredClient) -> dict[str, Any]:
    return {"name": client.name, "disabled": client.disabled_at is not None, **client_terms_shown(client.terms)}


def _group(group: StoredGroup, service: TermsService) -> dict[str, Any]:
    return {
        "name": group.name,
        "created_at": rfc3339(group.created_at),
        "members": list(service.members(group.name)),
        **limits_shown(group.terms.limits),
        "models": None if group.terms.models is None else list(group.terms.models),
    }


def client_terms(terms: ClientTerms, change: ClientChange) -> ClientTerms:
    """The terms after a change. Raises ValueError."""
    given = change.model_fields_set
    policy = DisconnectPolicy.parse(change.on_disconnect or "auto") if "on_disconnect" in given else terms.on_disconnect
    identified = change.safety_identifier if "safety_identifier" in given else terms.safety_identifier
    return ClientTerms(
        limits=_limits(terms.limits, change),
        models=_models(terms.models, change),
        on_disconnect=policy,
        safety_identifier=identified,
        output_ceiling=change.output_ceiling if "output_ceiling" in given else terms.output_ceiling,
        hard_stop=change.hard_stop if "hard_stop" in given else terms.hard_stop,
        group=change.group if "group" in given else terms.group,
        let_run=change.let_run and not change.enabled if "enabled" in given else terms.let_run,
    )


def _group_terms(terms: GroupTerms, change: GroupChange) -> GroupTerms:
    """Raises ValueError."""
    return GroupTerms(limits=_limits(terms.limits, change), models=_models(terms.models, change))


def _limits(limits: Limits, change: GroupChange) -> Limits:
    given = change.model_fields_set
    counts = {
        name: getattr(change, name) if name in given else getattr(limits, name)
        for name in ("rpm", "tpm", "concurrency")
    }
    budgets = limits.budgets
    if "budget_usd" in given:
        budgets = _budgets(budgets, Unit.USD, change.budget_usd)
    if "budget_tokens" in given:
        budgets = _budgets(budgets, Unit.TOKENS, change.budget_tokens)
    return Limits(**counts, budgets=budgets)


def _budgets(
    budgets: Sequence[Budget], unit: Unit, change: dict[Period, str | None] | dict[Period, int | None] | None
) -> tuple[Budget, ...]:
    gone = set(Period) if change is None else set(change)
    kept = tuple(budget for budget in budgets if budget.unit is not unit or budget.period not in gone)
    amounts = {} if change is None else change
    made = (
        Budget(unit, period, parse_amount(str(amount), unit))
        for period, amount in amounts.items()
        if amount is not None
    )
    return (*kept, *made)


def _models(models: tuple[str, ...] | None, change: GroupChange) -> tuple[str, ...] | None:
    if "models" not in change.model_fields_set:
        return models
    for pattern in change.models or ():
        check_pattern(pattern)
    return None if change.models is None else tuple(change.models)
