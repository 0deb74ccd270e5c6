"""Reads prices from upstream's list of models (`GET /models`), in OpenRouter's shape.

    {"data": [{"id", "canonical_slug", "context_length", "pricing": {"prompt": "0.00000125", "completion": "0.00001",
      "input_cache_read", "input_cache_write", "request", "web_search", ...}}]}

Amounts are US dollars a token, a call or a search, as decimal text; -1 if the price varies (a router). The lists of
other upstreams have no prices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from app.domain.money.amounts import parse_usd
from app.domain.money.pricing import TOKENS_PER_RATE, Price

ROUTING_SUFFIXES = (":nitro", ":floor", ":exacto", ":online")
"""OpenRouter's suffixes for routing: the model, and so its price per token, stays the same."""

MOST_MODELS = 10_000
_LONGEST_NAME = 256
_LONGEST_AMOUNT = 64

_RATES = {
    "input": "prompt",
    "output": "completion",
    "cached_input": "input_cache_read",
    "cache_write": "input_cache_write",
}
_FEES = {"per_request": "request", "web_search": "web_search"}


@dataclass(slots=True, frozen=True)
class LearnedPrice:
    """The price and context window of one model."""

    price: Price
    context_tokens: int | None


@dataclass(slots=True, frozen=True)
class LearnedPrices:
    """Upstream's prices by names in lower case, learned on `date`."""

    date: str | None = None
    models: Mapping[str, LearnedPrice] = field(default_factory=dict)

    def find(self, model: str) -> LearnedPrice | None:
        """Look a name up as it is, then without a routing suffix."""
        if not self.models:
            return None
        name = model.lower()
        bare, colon, suffix = name.rpartition(":")
        return self.models.get(name) or (self.models.get(bare) if colon + suffix in ROUTING_SUFFIXES else None)


NOTHING_LEARNED = LearnedPrices()


def read_models(document: object, source: str, date: str) -> LearnedPrices:
    """The prices in an answer to `GET /models`. Never raises."""
    entries = document.get("data") if isinstance(document, dict) else None
    found: dict[str, LearnedPrice] = {}
    for entry in entries[:MOST_MODELS] if isinstance(entries, list) else ():
        price = _read_entry(entry, source, date) if isinstance(entry, dict) else None
        if price is not None:
            for name in (entry.get("canonical_slug"), entry.get("id")):
                if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable():
                    found[name.lower()] = price
    return LearnedPrices(date, found)


def _read_entry(entry: Mapping[str, object], source: str, date: str) -> LearnedPrice | None:
    pricing = entry.get("pricing")
    if not isinstance(pricing, dict):
        return None
    amounts = {ours: _nanousd(pricing.get(theirs), TOKENS_PER_RATE) for ours, theirs in _RATES.items()}
    amounts |= {ours: _nanousd(pricing.get(theirs), 1) for ours, theirs in _FEES.items()}
    if amounts["input"] is None or amounts["output"] is None:
        return None
    known = {name: amount for name, amount in amounts.items() if amount is not None}
    context = entry.get("context_length")
    window = context if type(context) is int and context > 0 else None
    return LearnedPrice(Price.of(known, source=source, date=date), window)


def _nanousd(amount: object, times: int) -> int | None:
    """Nano-dollars of so many units at an amount of US dollars for one; None if it is no amount."""
    if not isinstance(amount, str | int | float) or isinstance(amount, bool) or len(str(amount)) > _LONGEST_AMOUNT:
        return None
    try:
        return parse_usd(Decimal(str(amount)) * times)
    except ArithmeticError:
        return None
