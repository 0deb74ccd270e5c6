"""Admission: applies a client's terms to a call before it goes upstream.

    models ──> safety identifier ──> worst case ──LimitRequest──> Limiter ──Grant──> upstream
      │                                 │ price unknown              │ LimitRefusal
      └── 403                           └── 403                      └── 429

Only calls whose client has such terms come here. The limiter may answer later: if the client has left by then,
everything is given back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app.domain.errors import ApiError, InvalidRequest, ModelNotAllowed, StorageUnavailable
from app.domain.identity.safety_identifier import with_safety_identifier
from app.domain.money.worst_case import Assumptions, WorstCase, models_named, worst_case
from app.domain.request.input_items import check_items
from app.domain.request.model_patterns import judge_models
from app.gateway.admission.call_facts import CallFacts
from app.gateway.admission.refusals import refusal_error
from app.gateway.admission.reservation import Asked, Reservation
from app.gateway.clients.directory import EffectiveTerms
from app.gateway.exchange.exchange import Exchange
from app.gateway.exchange.hard_stop import HardStop
from app.gateway.exchange.phase import Phase
from app.gateway.limiter import Grant, Limiter, LimitRefusal, LimitRequest
from app.gateway.ports import UpstreamRequest
from app.gateway.services import Services
from app.gateway.unsettled import UnsettledCalls

_IDENTIFIER = "safety_identifier"
NO_WORST_CASE = WorstCase(0, 0, None)


@dataclass(slots=True, frozen=True)
class AdmissionRules:
    """Rules for all clients, from the settings in `[limits]`."""

    assumed: Assumptions
    refuse_unknown_price: bool
    last_call: bool


class Admission:
    """One per process."""

    def __init__(
        self, services: Services, limiter: Limiter, rules: AdmissionRules, unsettled: UnsettledCalls | None = None
    ) -> None:
        self._ledger = services.ledger
        self._prices = services.prices
        self._limiter = limiter
        self._rules = rules
        self._unsettled = unsettled

    def begin(self, exchange: Exchange, terms: EffectiveTerms, facts: CallFacts, request: UpstreamRequest) -> None:
        """Send the call upstream if the terms allow it, else refuse it: now, or when the limiter has answered."""
        fields = facts.fields
        try:
            if terms.models:
                judge_models(terms.models, fields)
            if terms.safety_identifier is not None:
                request = _identified(request, terms.safety_identifier, facts)
            if terms.holders or terms.hard_stop:
                self._reserve(exchange, terms, fields, request)
                return
        except ApiError as error:
            _reject(exchange, error, request)
            return
        exchange.begin(request)

    def _reserve(
        self, exchange: Exchange, terms: EffectiveTerms, fields: Mapping[str, Any], request: UpstreamRequest
    ) -> None:
        """Ask the limiter. Raises ApiError if the call is refused before."""
        if terms.budgeted and not self._ledger.keeps:
            raise StorageUnavailable(
                "The ledger cannot store records at the moment, and this client has a budget. Try again in a moment."
            )
        worst = NO_WORST_CASE
        if terms.bounded:
            check_items(fields)
            worst = self._worst_case(terms, fields, len(request.body))
        if worst.cost_nanousd is None and terms.priced and self._rules.refuse_unknown_price:
            raise self._unpriced(fields)
        into, out, cost = worst
        record = exchange.record
        ask = LimitRequest(
            record.request_id, terms.holders, record.started_at, into + out, cost or 0, self._rules.last_call
        )
        exchange.asking = True
        asked = Asked(worst, terms, several=fields.get("models") is not None)
        self._limiter.reserve(ask, partial(self._answered, exchange, request, ask, asked))

    def _answered(
        self,
        exchange: Exchange,
        request: UpstreamRequest,
        ask: LimitRequest,
        asked: Asked,
        answer: Grant | LimitRefusal | ApiError,
    ) -> None:
        exchange.asking = False
        if isinstance(answer, ApiError):
            _reject(exchange, answer, request)
        elif isinstance(answer, LimitRefusal):
            self._refuse(exchange, request, ask, answer)
        elif exchange.phase is Phase.WAITING:
            exchange.reservation = reservation = Reservation(answer, asked)
            if asked.terms.budgeted:
                exchange.record.worst_case = asked.worst
            stop_at = reservation.stop_at_tokens
            exchange.begin(request, None if stop_at is None else HardStop(exchange, stop_at))
        else:
            answer.give_back()

    def _refuse(self, exchange: Exchange, request: UpstreamRequest, ask: LimitRequest, refusal: LimitRefusal) -> None:
        """Reject the call. For a budget, the message says how much unsettled calls hold, as soon as that is known."""
        unsettled, found = self._unsettled, refusal.budget
        if unsettled is None or found is None:
            _reject(exchange, refusal_error(refusal, ask), request)
            return

        def known() -> None:
            exchange.asking = False
            held = unsettled.holding(refusal.holder, found.budget, ask.at_us)
            _reject(exchange, refusal_error(refusal, ask, held), request)

        exchange.asking = True
        unsettled.look_up(known)

    def _unpriced(self, fields: Mapping[str, Any]) -> ModelNotAllowed:
        """The error for a call whose cost has no known bound."""
        names = models_named(fields)
        name = next((name for name in names if self._prices.price(name) is None), None)
        if name is None:
            message = "Name one model in `model`: this client has budgets in US dollars only."
            return ModelNotAllowed(message, param="model")
        return ModelNotAllowed(
            f"The price of the model {name!r} is unknown here, and this client has budgets in US dollars only. The "
            f'operator can set the price as [prices."{name}"] in the settings, or give the client a budget in tokens '
            "as well.",
            param="model" if name == fields.get("model") else "models",
        )

    def _worst_case(self, terms: EffectiveTerms, fields: Mapping[str, Any], size: int) -> WorstCase:
        assumed = self._rules.assumed
        if terms.output_ceiling is not None:
            assumed = Assumptions(assumed.bytes_per_token, terms.output_ceiling)
        prices = self._prices
        worst = worst_case(fields, size, assumed, prices.price, prices.context_tokens)
        if terms.hard_stop and terms.output_ceiling is not None and worst.output_tokens > terms.output_ceiling:
            fields = {**fields, "max_output_tokens": terms.output_ceiling}
            return worst_case(fields, size, assumed, prices.price, prices.context_tokens)
        return worst


def _reject(exchange: Exchange, error: ApiError, request: UpstreamRequest) -> None:
    if exchange.phase is Phase.WAITING:
        exchange.record.bytes_in = len(request.body)
        exchange.reject(error)


def _identified(request: UpstreamRequest, identifier: str, facts: CallFacts) -> UpstreamRequest:
    """The request with the client's identifier. Raises InvalidRequest."""
    has_one, span = _IDENTIFIER in facts.fields, facts.spans.get(_IDENTIFIER)
    try:
        return replace(request, body=with_safety_identifier(request.body, identifier, has_one=has_one, span=span))
    except (ValueError, RecursionError):
        message = f"This server sets `{_IDENTIFIER}`, and cannot replace the one in this body: leave it out."
        raise InvalidRequest(message, param=_IDENTIFIER) from None
