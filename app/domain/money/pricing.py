"""A Price turns Usage into money, in integers: rates are nano-dollars per million tokens, a cost is nano-dollars.

Upstreams report tokens that overlap: cached and cache-write tokens are parts of the input, reasoning is part of the
output. Charging each number by itself counts tokens twice, so a cost is made from disjoint buckets only. They sum to
the totals, whatever upstream claims about the parts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from app.domain.answer.usage import MAX_TOKENS, Usage
from app.domain.money.amounts import format_usd, parse_usd

TOKENS_PER_RATE = 1_000_000

_AMOUNTS = ("input", "cached_input", "cache_write", "output", "per_request")
_REQUIRED = ("input", "output")


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

    `input`, `output`, `cached_input` and `cache_write` are nano-dollars per million tokens; the last two are None where
    such tokens cost as much as other input. Reasoning costs what output costs. `per_request` is nano-dollars a call.
    `source` says whose price it is. `tiers` are (threshold, price) pairs, thresholds rising: a call with more input
    tokens than the threshold is charged by that price as a whole, as providers do. Raises ValueError for amounts below
    zero and for tiers that do not rise or have tiers themselves.
    """

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    per_request: int = 0
    source: str = "config"
    tiers: "tuple[tuple[int, Price], ...]" = ()
    _json: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if any(amount < 0 for amount in _amounts(self).values()):
            raise ValueError("a price has no amounts below zero")
        thresholds = [threshold for threshold, _ in self.tiers]
        if thresholds != sorted(set(thresholds)) or any(price.tiers for _, price in self.tiers):
            raise ValueError("the tiers of a price rise by their thresholds and have no tiers themselves")
        # A price serves many calls and its text goes into the record of each: made here once.
        text = json.dumps({**_as_mapping(self), "source": self.source}, separators=(",", ":"))
        object.__setattr__(self, "_json", text)

    def at(self, input_tokens: int) -> "Price":
        """The price that holds for a call with so many input tokens: the highest tier that they exceed, or this one."""
        for threshold, price in reversed(self.tiers):
            if input_tokens > threshold:
                return price
        return self

    def as_json(self) -> str:
        """The price as kept beside the cost it made: the mapping that `price_from_config` reads, and the source."""
        return self._json


def buckets(input_tokens: int, output_tokens: int, usage: Usage) -> Buckets:
    """The totals divided by the parts that `usage` gives.

    A part that is unknown is empty; one larger than what is left of its total is cut to that, cached before written.
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


def price_from_config(mapping: Mapping[str, object], source: str = "config") -> Price:
    """The Price that an operator wrote: US dollars as text or number, per million tokens (`per_request`: per call).

        input, output                             needed
        cached_input, cache_write, per_request    may be left out
        tiers                                     a list of tables of the above, each with `above`: input tokens

    Raises ValueError naming everything that is wrong.
    """
    faults: list[str] = []
    tiers = _read_tiers(mapping.get("tiers", ()), source, faults)
    amounts = _read_amounts(mapping, "tiers", "", faults)
    if faults:
        raise ValueError("; ".join(faults))
    return Price(**amounts, source=source, tiers=tuple(tiers))


def _read_amounts(mapping: Mapping[str, object], other: str, where: str, faults: list[str]) -> dict[str, int]:
    """The amounts in `mapping`, which may have one `other` key besides; what is wrong goes to `faults`."""
    known = ", ".join([*_AMOUNTS, other])
    unknown = sorted(mapping.keys() - {*_AMOUNTS, other})
    faults.extend(f"{where}{name} is not part of a price (known: {known})" for name in unknown)
    faults.extend(f"{where}{name} is missing" for name in _REQUIRED if name not in mapping)
    amounts = {}
    for name in _AMOUNTS:
        if name not in mapping:
            continue
        amount = parse_usd(mapping[name])
        if amount is None:
            faults.append(f"{where}{name} = {mapping[name]!r} is not an amount of US dollars")
        else:
            amounts[name] = amount
    return amounts


def _read_tiers(value: object, source: str, faults: list[str]) -> list[tuple[int, Price]]:
    if not isinstance(value, list | tuple):
        faults.append("tiers is not a list of tables")
        return []
    tiers: list[tuple[int, Price]] = []
    for place, entry in enumerate(value, 1):
        where = f"tier {place}: "
        if not isinstance(entry, Mapping):
            faults.append(f"{where}is not a table")
            continue
        known = len(faults)
        above = entry.get("above")
        if type(above) is not int or not 0 <= above <= MAX_TOKENS:
            faults.append(f"{where}above is not a number of tokens")
        elif tiers and above <= tiers[-1][0]:
            faults.append(f"{where}above does not rise")
        amounts = _read_amounts(entry, "above", where, faults)
        if len(faults) == known and type(above) is int:
            tiers.append((above, Price(**amounts, source=source, tiers=())))
    return tiers


def _amounts(price: Price) -> dict[str, int]:
    """The amounts that are known, by name, in the order in which they are written."""
    values = {name: getattr(price, name) for name in _AMOUNTS}
    return {name: value for name, value in values.items() if value is not None}


def _as_mapping(price: Price) -> dict[str, object]:
    """What `price_from_config` would read this price from."""
    mapping: dict[str, object] = {name: format_usd(amount) for name, amount in _amounts(price).items()}
    if not price.per_request:
        del mapping["per_request"]
    if price.tiers:
        mapping["tiers"] = [{"above": threshold, **_as_mapping(tier)} for threshold, tier in price.tiers]
    return mapping


def _divided_half_even(number: int, divisor: int) -> int:
    quotient, rest = divmod(number, divisor)
    twice = 2 * rest
    return quotient + (twice > divisor or (twice == divisor and quotient % 2 == 1))
