"""Usage is the tokens of one exchange, read from the `usage` object in upstream's answer.

Upstreams differ: details may be null or absent, numbers may be floats, some use the names of Chat Completions. What
cannot be read as a count is unknown, never zero. A reported zero stays zero: a hit in OpenRouter's response cache is
all zeros.
"""

from decimal import Decimal
from typing import NamedTuple

from app.domain.money.amounts import parse_usd

MAX_TOKENS = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""

TICKS_PER_USD = 10**10
"""xAI's unit of money."""


class Usage(NamedTuple):
    """Token counts, None where unknown.

    Cached and cache-write tokens are parts of the input, reasoning tokens are part of the output. `total_tokens` is as
    upstream reported it, no sum of ours. `reported_cost_nanousd` is the cost that upstream reports.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    reported_cost_nanousd: int | None = None


NOTHING = Usage()


def read_usage(value: object) -> Usage | None:
    """The Usage in a decoded JSON value; None if it has no count. Never raises."""
    if not isinstance(value, dict):
        return None
    get = value.get
    into = _details(value, "input_tokens_details", "prompt_tokens_details").get
    out = _details(value, "output_tokens_details", "completion_tokens_details").get
    usage = Usage(
        _first_count(value, "input_tokens", "prompt_tokens"),
        None if (cached := into("cached_tokens")) is None else count_of(cached),
        None if (written := into("cache_write_tokens")) is None else count_of(written),
        _first_count(value, "output_tokens", "completion_tokens"),
        None if (reasoning := out("reasoning_tokens")) is None else count_of(reasoning),
        None if (total := get("total_tokens")) is None else count_of(total),
        _reported_cost(value),
    )
    return None if usage == NOTHING else usage


def _reported_cost(value: dict[object, object]) -> int | None:
    """The cost that upstream reports: `cost` as a number, `cost.total_cost` (Perplexity), ticks (xAI).

    For calls with the operator's own provider key, OpenRouter's `cost` is only its fee, mostly 0; the provider's bill
    stands beside it.
    """
    cost = value.get("cost")
    if isinstance(cost, dict):
        return parse_usd(cost.get("total_cost")) if cost.get("currency", "USD") == "USD" else None
    if cost is None:
        ticks = count_of(value.get("cost_in_usd_ticks"))
        return None if ticks is None else parse_usd(Decimal(ticks) / TICKS_PER_USD)
    charged = parse_usd(cost)
    if charged is None or value.get("is_byok") is not True:
        return charged
    details = value.get("cost_details")
    return with_provider_bill(charged, details.get("upstream_inference_cost") if isinstance(details, dict) else None)


def with_provider_bill(fee_nanousd: int | None, bill: object) -> int | None:
    """OpenRouter's fee plus the provider's bill; None, so that the call is priced, if the bill is unknown."""
    billed = parse_usd(bill)
    return None if fee_nanousd is None or billed is None else fee_nanousd + billed


def _details(value: dict[object, object], name: str, chat_name: str) -> dict[object, object]:
    """The detail object under its Responses name, else under its Chat Completions name, else an empty one."""
    details = value.get(name)
    if isinstance(details, dict):
        return details
    details = value.get(chat_name)
    return details if isinstance(details, dict) else {}


def _first_count(value: dict[object, object], name: str, chat_name: str) -> int | None:
    count = value.get(name)
    if type(count) is int and 0 <= count <= MAX_TOKENS:  # as in most answers, without a call
        return count
    count = count_of(count)
    return count_of(value.get(chat_name)) if count is None else count


def count_of(value: object) -> int | None:
    """The `value` if it is a whole number from 0 to MAX_TOKENS. `type`, not isinstance: True is an int to Python."""
    if type(value) is int:
        return value if 0 <= value <= MAX_TOKENS else None
    return count_of(int(value)) if type(value) is float and value.is_integer() else None
