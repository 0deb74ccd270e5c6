"""Terms: everything that an operator agreed with a client or a group, as one value, which is stored as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.disconnect import DEFAULT_POLICY, DisconnectPolicy
from app.domain.money.budgets import Budget, Unit, parse_amount
from app.domain.money.limits import NO_LIMITS, Limits
from app.domain.money.windows import Period

_COUNTS = ("rpm", "tpm", "concurrency")


@dataclass(slots=True, frozen=True, kw_only=True)
class GroupTerms:
    """The terms of all clients of a group together. `models` are globs, None allows every model."""

    limits: Limits = NO_LIMITS
    models: tuple[str, ...] | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class ClientTerms:
    """The terms of one client. `models` are globs, None allows every model.

    `output_ceiling` is the worst case of output tokens for a call without `max_output_tokens`. With `hard_stop` a
    stream is ended there, and where its budget reservation is used up. With `safety_identifier` upstream gets a hash of
    the client's name. `let_run`: its running calls go on after it was disabled.
    """

    limits: Limits = NO_LIMITS
    models: tuple[str, ...] | None = None
    on_disconnect: DisconnectPolicy = DEFAULT_POLICY
    safety_identifier: bool = False
    output_ceiling: int | None = None
    hard_stop: bool = False
    group: str | None = None
    let_run: bool = False


NO_TERMS = ClientTerms()


def client_terms_json(terms: ClientTerms) -> str:
    """The terms as text, without what is as in NO_TERMS."""
    fields: dict[str, object] = _shared(terms.limits, terms.models)
    if terms.on_disconnect != DEFAULT_POLICY:
        fields["on_disconnect"] = str(terms.on_disconnect)
    if terms.safety_identifier:
        fields["safety_identifier"] = True
    if terms.output_ceiling is not None:
        fields["output_ceiling"] = terms.output_ceiling
    if terms.hard_stop:
        fields["hard_stop"] = True
    if terms.group is not None:
        fields["group"] = terms.group
    if terms.let_run:
        fields["let_run"] = True
    return json.dumps(fields, separators=(",", ":"))


def read_client_terms(text: str | None) -> ClientTerms:
    """The terms in a text, or NO_TERMS. Raises ValueError, KeyError or TypeError if the text holds none."""
    if text is None:
        return NO_TERMS
    fields = json.loads(text)
    return ClientTerms(
        limits=_limits(fields),
        models=_models(fields),
        on_disconnect=DisconnectPolicy.parse(fields.get("on_disconnect", "auto")),
        safety_identifier=fields.get("safety_identifier", False),
        output_ceiling=fields.get("output_ceiling"),
        hard_stop=fields.get("hard_stop", False),
        group=fields.get("group"),
        let_run=fields.get("let_run", False),
    )


def group_terms_json(terms: GroupTerms) -> str:
    """The same for a group."""
    return json.dumps(_shared(terms.limits, terms.models), separators=(",", ":"))


def read_group_terms(text: str) -> GroupTerms:
    """The same for a group."""
    fields = json.loads(text)
    return GroupTerms(limits=_limits(fields), models=_models(fields))


def _shared(limits: Limits, models: tuple[str, ...] | None) -> dict[str, object]:
    fields: dict[str, object] = {name: getattr(limits, name) for name in _COUNTS if getattr(limits, name) is not None}
    if limits.budgets:
        budgets = [{"unit": b.unit, "period": b.period, "amount": b.amount_text} for b in limits.budgets]
        fields["budgets"] = budgets
    if models is not None:
        fields["models"] = list(models)
    return fields


def _limits(fields: Mapping[str, object]) -> Limits:
    counts = {name: fields.get(name) for name in _COUNTS}
    budgets = fields.get("budgets", [])
    if not isinstance(budgets, list) or not all(value is None or type(value) is int for value in counts.values()):
        raise TypeError("the stored terms are not well-formed")
    return Limits(**counts, budgets=tuple(map(_budget, budgets)))  # type: ignore[arg-type]  # as just seen


def _budget(fields: Mapping[str, str]) -> Budget:
    unit = Unit(fields["unit"])
    return Budget(unit, Period(fields["period"]), parse_amount(fields["amount"], unit))


def _models(fields: Mapping[str, object]) -> tuple[str, ...] | None:
    models = fields.get("models")
    return tuple(map(str, models)) if isinstance(models, list) else None
