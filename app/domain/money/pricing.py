"""A Price turns Usage into money, in integers: rates are nano-dollars per million tokens, a cost is nano-dollars.

Upstreams report tokens that overlap: cached and cache-write tokens are parts of the input, reasoning is part of the
output. So a cost is made from disjoint buckets, which sum to the totals whatever upstream says about the parts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from app.domain.answer.usage import Usage
from app.domain.money.amounts import format_usd

TOKENS_PER_RATE = 1_000_000

RATES = ("input", "cached_input", "cache_write", "output", "image_input", "image_output")
FEES = ("per_request", "web_search", "file_search")
AMOUNTS = RATES + FEES

STANDARD_TIERS = frozenset((None, "", "auto", "default", "standard"))
"""Service tiers to which the price itself applies."""


class Buckets(NamedTuple):
    """Every token of one exchange exactly once, each count 0 or more."""

    uncached_input: int
    cached_input: int
    cache_write: int
    visible_output: int
    reasoning: int


@dataclass(slots=True, frozen=True, kw_only=True)
class Price:
    """What a model costs.

    `input`, `output`, `cached_input` and `cache_write` are nano-dollars per million tokens; the last two are None if
    such tokens cost as much as other input. Reasoning costs what output costs. `image_input` and `image_output` are
    rates of an image tool's own tokens. `per_request` is nano-dollars a call, `web_search` and `file_search` are
    nano-dollars a call of the tool. None of these is unknown.

    `source` says whose price it is, `date` since when it is known. `tiers` are (threshold, price) pairs with rising
    thresholds: a call with more input tokens than the threshold is charged by that price as a whole, as providers do.
    `service_tiers` are (name, price) pairs. Raises ValueError for amounts below zero, for tiers that do not rise or
    have tiers themselves, and for service tiers within service tiers.
    """

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    per_request: int = 0
    web_search: int | None = None
    file_search: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    source: str = "config"
    date: str | None = None
    tiers: "tuple[tuple[int, Price], ...]" = ()
    service_tiers: "tuple[tuple[str, Price], ...]" = ()
    _json: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if any(amount < 0 for amount in _amounts(self).values()):
            raise ValueError("a price has no amounts below zero")
        thresholds = [threshold for threshold, _ in self.tiers]
        if thresholds != sorted(set(thresholds)) or any(price.tiers for _, price in self.tiers):
            raise ValueError("the tiers of a price rise by their thresholds and have no tiers themselves")
        if any(price.service_tiers for _, price in (*self.tiers, *self.service_tiers)):
            raise ValueError("a service tier of a price has no service tiers itself")
        # Made once: the text goes into the record of each call.
        named = {"source": self.source} if self.date is None else {"source": self.source, "date": self.date}
        text = json.dumps({**as_mapping(self, service_tiers=False), **named}, separators=(",", ":"))
        object.__setattr__(self, "_json", text)

    @classmethod
    def of(cls, amounts: Mapping[str, int], **rest: Any) -> "Price":  # noqa: ANN401 - the other fields
        """The price with these amounts, by name."""
        return cls(**cast("dict[str, Any]", amounts), **rest)

    def at(self, input_tokens: int) -> "Price":
        """The price for a call with so many input tokens: the highest tier that they exceed, or this price."""
        for threshold, price in reversed(self.tiers):
            if input_tokens > threshold:
                return price
        return self

    def as_json(self) -> str:
        """The price as stored beside its cost: for `price_from_config`, without service tiers, with source and date."""
        return self._json

    def at_service_tier(self, name: str | None) -> "Price | None":
        """The price of a service tier; None if it is unknown."""
        if name in STANDARD_TIERS:
            return self
        return next((price for known, price in self.service_tiers if known == name), None)


def buckets(input_tokens: int, output_tokens: int, usage: Usage) -> Buckets:
    """The totals divided into the parts that `usage` reports.

    An unknown part is empty. A part is at most what is left of its total; cached goes before written.
    """
    cached = min(usage.cached_input_tokens or 0, input_tokens)
    written = min(usage.cache_write_tokens or 0, input_tokens - cached)
    reasoning = min(usage.reasoning_tokens or 0, output_tokens)
    return Buckets(input_tokens - cached - written, cached, written, output_tokens - reasoning, reasoning)


def cost(usage: Usage, price: Price) -> int | None:
    """Nano-dollars, rounded once, half to even. None when the input or output tokens are unknown."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    rates = price.at(usage.input_tokens)
    tokens = buckets(usage.input_tokens, usage.output_tokens, usage)
    scaled = (
        tokens.uncached_input * rates.input
        + tokens.cached_input * (rates.input if rates.cached_input is None else rates.cached_input)
        + tokens.cache_write * (rates.input if rates.cache_write is None else rates.cache_write)
        + (tokens.visible_output + tokens.reasoning) * rates.output
    )
    return rates.per_request + _divided_half_even(scaled, TOKENS_PER_RATE)


def _amounts(price: Price) -> dict[str, int]:
    """The known amounts by name, in the order in which they are written."""
    values = {name: getattr(price, name) for name in AMOUNTS}
    return {name: value for name, value in values.items() if value is not None}


def as_mapping(price: Price, *, service_tiers: bool = True) -> dict[str, object]:
    """The table from which `price_from_config` reads this price."""
    mapping: dict[str, object] = {name: format_usd(amount) for name, amount in _amounts(price).items()}
    if not price.per_request:
        del mapping["per_request"]
    if price.tiers:
        mapping["tiers"] = [{"above": threshold, **as_mapping(tier)} for threshold, tier in price.tiers]
    if price.service_tiers and service_tiers:
        mapping["service_tiers"] = {name: as_mapping(tier) for name, tier in price.service_tiers}
    return mapping


def _divided_half_even(number: int, divisor: int) -> int:
    quotient, rest = divmod(number, divisor)
    twice = 2 * rest
    return quotient + (twice > divisor or (twice == divisor and quotient % 2 == 1))
