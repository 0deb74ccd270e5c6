"""The worst case of a call: the most that it may come to, reserved before it goes upstream.

    input    a token for each `bytes_per_token` bytes of the body; the model's whole context if the call builds on what
             upstream stores (an earlier response, a conversation, a stored prompt)
    output   `max_output_tokens`; without one the client's ceiling, or else that of all clients
    both     never more than the model's context, if that is known
    money    the most expensive of the models that may answer, input at the highest of its rates, at the more expensive
             of the service tier that the call asks for and the standard one

It leaves out what upstream adds to the input (pictures and files behind addresses, results of hosted tools, one round
after another), fees for tools, and service tiers without a known price (docs/limits.md).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.domain.money.pricing import STANDARD_TIERS, TOKENS_PER_RATE, Price
from app.domain.request.input_items import has_reference

MOST_OUTPUT_TOKENS = 10**9
"""No model makes as many in one answer, so that a larger request counts as this."""

_LONGEST_TIER = 32
_KEPT_UPSTREAM = ("previous_response_id", "conversation", "prompt")


class WorstCase(NamedTuple):
    """Tokens, and nano-dollars: None if a price is unknown."""

    input_tokens: int
    output_tokens: int
    cost_nanousd: int | None

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True, frozen=True)
class Assumptions:
    """What is assumed if a call does not say it."""

    bytes_per_token: int
    output_ceiling: int


def worst_case(
    call: Mapping[str, object],
    body_bytes: int,
    assumed: Assumptions,
    price_of: Callable[[str], Price | None],
    context_of: Callable[[str], int | None],
) -> WorstCase:
    """The worst case of a parsed request body of so many bytes. Never raises."""
    models = models_named(call)
    context = _largest(map(context_of, models)) if len(models) != 1 else context_of(models[0])
    into = -(-body_bytes // assumed.bytes_per_token)
    asked = call.get("max_output_tokens")
    counted = None if asked is None else tokens_asked(asked)
    out = assumed.output_ceiling if counted is None else counted
    if context is not None:
        if (
            into > context
            or any(call.get(key) is not None for key in _KEPT_UPSTREAM)
            or has_reference(call.get("input"))
        ):
            into = context
        out = min(out, context)
    cost, tier = None, tier_asked(call)
    for model in models:
        price = price_of(model)
        if price is None:
            return WorstCase(into, out, None)
        cost = max(cost or 0, highest_cost(price, into, out))
        if tier is not None and (at_tier := price.at_service_tier(tier)) is not None:
            cost = max(cost, highest_cost(at_tier, into, out))
    return WorstCase(into, out, cost)


def tier_asked(call: Mapping[str, object]) -> str | None:
    """The service tier that a request body asks for, if it is no standard one."""
    tier = call.get("service_tier")
    return tier if isinstance(tier, str) and tier not in STANDARD_TIERS and len(tier) <= _LONGEST_TIER else None


def highest_cost(price: Price, input_tokens: int, output_tokens: int) -> int:
    """Nano-dollars, rounded up, of so many tokens at the highest rates that may apply to so many or fewer."""
    highest = _cost(price, input_tokens, output_tokens)
    for above, tier in price.tiers:
        if input_tokens > above:
            highest = max(highest, _cost(tier, input_tokens, output_tokens))
    return highest


def _cost(rates: Price, input_tokens: int, output_tokens: int) -> int:
    into = max(rates.input, rates.cached_input or 0, rates.cache_write or 0)
    return rates.per_request - (-(input_tokens * into + output_tokens * rates.output) // TOKENS_PER_RATE)


def models_named(call: Mapping[str, object]) -> list[str]:
    """The models that may answer, as far as the body names them; empty if that is unknown."""
    named, model = call.get("models"), call.get("model")
    if named is None and isinstance(model, str):
        return [model]
    if named is not None and not isinstance(named, list):
        return []  # too long to be read, or no list
    return list(dict.fromkeys(name for name in (model, *(named or ())) if isinstance(name, str)))


def _largest(numbers: Iterable[int | None]) -> int | None:
    """The largest number; None if one is unknown, or there is none."""
    largest = None
    for number in numbers:
        if number is None:
            return None
        if largest is None or number > largest:
            largest = number
    return largest


def tokens_asked(value: object) -> int | None:
    """A number of tokens; None if it is none, and for 0, which some upstreams read as no limit."""
    if type(value) is int and 0 < value <= MOST_OUTPUT_TOKENS:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        return None
    return MOST_OUTPUT_TOKENS if value > MOST_OUTPUT_TOKENS else int(value)
