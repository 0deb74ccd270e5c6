"""Admission: what a client's terms say to a call, before it goes upstream.

    models ──> safety identifier ──> worst case ──Ask──> Limiter ──Grant──> upstream
      │                                 │ price unknown     │ Refusal
      └── 403                           └── 403             └── 429

Only calls whose client has terms to be judged come by here. The limiter may answer later: an exchange whose client has
left meanwhile gives everything back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from app.domain.errors import ApiError, InvalidRequest, ModelNotAllowed, StorageUnavailable
from app.domain.safety_identifier import with_safety_identifier
from app.domain.worst_case import Assumptions, WorstCase, worst_case
from app.gateway.hard_stop import HardStop
from app.gateway.limits import Ask, Grant, Limiter, Refusal
from app.gateway.phase import Phase
from app.gateway.ports import UpstreamRequest
from app.gateway.refusals import refusal_error
from app.gateway.relay import Exchange
from app.gateway.reservation import Asked, Reservation
from app.gateway.roster import HeldTerms
from app.gateway.services import Services

UNWEIGHED = WorstCase(0, 0, None)
_LONGEST_READ_BYTES = 4 * 1024 * 1024
"""A list of tools or plugins this long is still read whole, in some 10 ms; a longer one cannot be judged."""


@dataclass(slots=True, frozen=True)
class AdmissionRules:
    """What holds for all clients; see the settings in `[limits]`."""

    assumed: Assumptions
    refuse_unknown_price: bool
    last_call: bool


class Admission:
    """One per process."""

    def __init__(self, services: Services, limiter: Limiter, rules: AdmissionRules) -> None:
        self._ledger = services.ledger
        self._prices = services.prices
        self._limiter = limiter
        self._rules = rules

    def begin(self, exchange: Exchange, terms: HeldTerms, fields: Mapping[str, Any], request: UpstreamRequest) -> None:
        """Send the call upstream if the terms allow it, else answer it; now, or when the limiter has answered."""
        try:
            if terms.models:
                fields = _readable(fields)
                for patterns in terms.models:
                    patterns.judge(fields)
            if terms.safety_identifier is not None:
                request = _identified(request, terms.safety_identifier, has_one="safety_identifier" in fields)
            if terms.holders or terms.hard_stop:
                self._reserve(exchange, terms, fields, request)
                return
        except ApiError as error:
            _reject(exchange, error, request)
            return
        exchange.begin(request)

    def _reserve(
        self, exchange: Exchange, terms: HeldTerms, fields: Mapping[str, Any], request: UpstreamRequest
    ) -> None:
        """Raises ApiError when the call may not even ask."""
        if terms.budgeted and not self._ledger.keeps:
            raise StorageUnavailable("The ledger does not take records, and this client has a budget.")
        worst = self._worst_case(terms, fields, len(request.body)) if terms.weighed else UNWEIGHED
        if worst.cost_nanousd is None and terms.priced and self._rules.refuse_unknown_price:
            message = "What this model costs is not known here, and this client has budgets in US dollars only."
            raise ModelNotAllowed(message, param="model")
        into, out, cost = worst
        record = exchange.record
        ask = Ask(record.request_id, terms.holders, record.started_at, into + out, cost or 0, self._rules.last_call)
        exchange.asking = True
        asked = Asked(worst, terms, several=fields.get("models") is not None)
        self._limiter.reserve(ask, partial(self._answered, exchange, request, ask, asked))

    def _answered(
        self,
        exchange: Exchange,
        request: UpstreamRequest,
        ask: Ask,
        asked: Asked,
        answer: Grant | Refusal | ApiError,
    ) -> None:
        exchange.asking = False
        if isinstance(answer, (ApiError, Refusal)):
            error = answer if isinstance(answer, ApiError) else refusal_error(answer, ask)
            _reject(exchange, error, request)
        elif exchange.phase is Phase.WAITING:
            exchange.reservation = reservation = Reservation(answer, asked)
            if asked.terms.budgeted:
                exchange.record.worst_case = asked.worst
            stop_at = reservation.stop_at_tokens
            exchange.begin(request, None if stop_at is None else HardStop(exchange, stop_at))
        else:
            answer.give_back()

    def _worst_case(self, terms: HeldTerms, fields: Mapping[str, Any], size: int) -> WorstCase:
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


def _identified(request: UpstreamRequest, identifier: str, *, has_one: bool) -> UpstreamRequest:
    """The request with the client's identifier. Raises InvalidRequest."""
    try:
        return replace(request, body=with_safety_identifier(request.body, identifier, has_one=has_one))
    except (ValueError, RecursionError):
        message = "`safety_identifier` is set by the server, and this body cannot be changed: leave it out."
        raise InvalidRequest(message, param="safety_identifier") from None


def _readable(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields with those parsed that a body read in steps has left as bytes. Raises InvalidRequest."""
    raw = {key: value for key, value in fields.items() if isinstance(value, bytes)}
    if sum(map(len, raw.values())) > _LONGEST_READ_BYTES:
        raise InvalidRequest(f"`{min(raw)}` is too long to be judged, and this client may use certain models only.")
    try:
        return {**fields, **{key: orjson.loads(value) for key, value in raw.items()}} if raw else fields
    except ValueError:
        raise InvalidRequest(f"`{min(raw)}` cannot be read.") from None
