"""What a call costs by a price: its tokens at the service tier that served it, and the fees of upstream's own tools.

A charge names what its price does not cover.
"""

from typing import NamedTuple

from app.domain.answer.extras import FILE_SEARCHES, IMAGES, NO_EXTRAS, WEB_SEARCHES, Extras
from app.domain.answer.usage import Usage
from app.domain.money.pricing import STANDARD_TIERS, TOKENS_PER_RATE, Price, cost

_NO_FEES = NO_EXTRAS[1:6]


class Charge(NamedTuple):
    """Nano-dollars, the price that made them, and in words what is missing or uncertain."""

    cost_nanousd: int
    price: Price
    missing: list[str]


def charge(usage: Usage, extras: Extras, price: Price, asked_tier: str | None) -> Charge | None:
    """None if the input or output tokens are unknown. `asked_tier` is the `service_tier` of the request."""
    missing: list[str] = []
    rates = price
    if extras.service_tier not in STANDARD_TIERS or (extras.service_tier is None and asked_tier not in STANDARD_TIERS):
        rates = _tier_of(price, extras.service_tier, asked_tier, missing)
    amount = cost(usage, rates)
    if amount is None:
        return None
    if extras.unread:
        missing.append("the output was too large to be searched for upstream's own tools")
    if extras[1:6] != _NO_FEES:
        amount += _fees(extras, rates, missing)
    return Charge(amount, rates, missing)


def _tier_of(price: Price, served: str | None, asked: str | None, missing: list[str]) -> Price:
    name = served or asked
    found = price.at_service_tier(name)
    if served is None:
        missing.append(f"the answer does not say whether the service tier {name!r} served it")
    if found is None:
        missing.append(f"no price is known for the service tier {name!r}")
    return found or price


def _fees(extras: Extras, price: Price, missing: list[str]) -> int:
    seen = dict(extras.seen)
    amount = 0
    searches = seen.pop(WEB_SEARCHES, 0)
    if extras.web_searches is None and searches:
        missing.append("web searches are counted by the output")
    amount += _fee(
        searches if extras.web_searches is None else extras.web_searches, price.web_search, WEB_SEARCHES, missing
    )
    if files := seen.pop(FILE_SEARCHES, 0):
        missing.append("file searches are counted by the output")
        amount += _fee(files, price.file_search, FILE_SEARCHES, missing)
    into, out = extras.image_input_tokens, extras.image_output_tokens
    if into or out:
        seen.pop(IMAGES, None)
        amount += _rate(into, price.image_input, "input", missing) + _rate(out, price.image_output, "output", missing)
    missing.extend(f"{count} {name}" for name, count in seen.items())
    missing.extend(f"the price of {name.replace('_', ' ')}" for name in extras.other_tokens)
    return amount


def _fee(count: int, fee: int | None, name: str, missing: list[str]) -> int:
    if count and fee is None:
        missing.append(f"{count} {name}")
    return count * (fee or 0)


def _rate(tokens: int, rate: int | None, kind: str, missing: list[str]) -> int:
    if tokens and rate is None:
        missing.append(f"{tokens} image {kind} tokens")
    return tokens * (rate or 0) // TOKENS_PER_RATE
