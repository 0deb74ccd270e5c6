"""Converts a price of genai-prices' data: rates, tiers by input tokens, service tiers, fees of tools."""

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from app.domain.money.amounts import parse_usd
from app.domain.money.pricing import FEES, STANDARD_TIERS, Price

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from genai_prices.types import ModelInfo, TieredPrices
    from genai_prices.types import StartDateConstraint as FromDate
    from genai_prices.types import TimeOfDateConstraint as DailyHours

    Constraint = FromDate | DailyHours
    Amount = Decimal | TieredPrices | None
    Amounts = dict[str, Amount]
    Variants = dict[str, dict[str, Amount]]

_FREE_SUFFIX = ":free"
_TIER = "service_tier"

_AMOUNTS = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
    "image_input": "input_image_mtok",
    "image_output": "output_image_mtok",
    "per_request": "requests_kcount",
    "web_search": "web_searches_kcount",
    "file_search": "storage_searches_kcount",
}
"""Our names for the library's amounts. It counts calls by the thousand."""


class Term(NamedTuple):
    """A price and when it holds. No constraint means always; no price means unknown."""

    constraint: "Constraint | None"
    price: Price | None


Terms = tuple[Term, ...]


def terms_of(model: "ModelInfo", name: str, source: str, now: "datetime") -> Terms:
    """A model's prices; the first active one applies. The library's rule is: the last active one, else the first."""
    variants = _service_tiers(model, now)
    if not isinstance(model.prices, list):
        return (Term(None, _price(vars(model.prices), variants, name, source)),)
    terms = [
        Term(entry.constraint, _price(vars(entry.prices), variants, name, source)) for entry in reversed(model.prices)
    ]
    return (*terms, *(Term(None, term.price) for term in terms[-1:]))


def _service_tiers(model: "ModelInfo", now: "datetime") -> "Variants":
    """The differing amounts of each service tier, by the library's names. Of several that hold, the first counts."""
    found: Variants = {}
    for variant in getattr(model, "price_variants", None) or ():
        tier = variant.when.get(_TIER)
        if len(variant.when) != 1 or tier in STANDARD_TIERS:
            continue
        if variant.constraint is None or variant.constraint.active(now):
            found[tier] = {**vars(variant.prices), **found.get(tier, {})}
    return found


def _price(prices: "Mapping[str, Amount]", variants: "Variants", name: str, source: str) -> Price | None:
    """The library's price as ours; None if the model is not sold by input and output tokens."""
    amounts = {ours: prices.get(theirs) for ours, theirs in _AMOUNTS.items()}
    if not any(prices.values()) and name.endswith(_FREE_SUFFIX):
        return Price(input=0, output=0, source=source)
    if amounts["input"] is None or amounts["output"] is None:
        return None
    found = ((tier, _price({**prices, **differing}, {}, name, source)) for tier, differing in variants.items())
    service_tiers = tuple((tier, price) for tier, price in found if price is not None)
    thresholds = sorted({tier.start for amount in amounts.values() for tier in getattr(amount, "tiers", ())})
    tiers = tuple((above, Price.of(_amounts_above(amounts, above), source=source)) for above in thresholds)
    return Price.of(_amounts_above(amounts, None), source=source, tiers=tiers, service_tiers=service_tiers)


def _amounts_above(amounts: "Amounts", threshold: int | None) -> dict[str, int]:
    """Nano-dollars by name, for a call of more input tokens than `threshold`; None is the price below every tier."""
    found = {}
    for name, amount in amounts.items():
        nanousd = parse_usd(_dollars(amount, threshold))
        if nanousd is not None:
            found[name] = nanousd // 1000 if name in FEES else nanousd
    return found


def _dollars(amount: "Decimal | TieredPrices | None", threshold: int | None) -> Decimal | None:
    if amount is None or isinstance(amount, Decimal):
        return amount
    reached = [tier.price for tier in amount.tiers if threshold is not None and tier.start <= threshold]
    return reached[-1] if reached else amount.base
