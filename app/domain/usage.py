"""Usage is what one exchange weighed, read from the `usage` object that upstream put into its answer.

Upstreams differ: details may be null or absent, numbers may be floats, some leak the names of Chat Completions. What
cannot be read as a count is unknown, never zero; a zero that was reported stays zero (a hit in OpenRouter's response
cache is all zeros).
"""

from dataclasses import dataclass

from app.domain.money import parse_usd

MAX_TOKENS = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


@dataclass(slots=True, frozen=True)
class Usage:
    """Token counts, None where unknown.

    Cached and cache-write tokens are parts of the input, reasoning tokens are part of the output. `total_tokens` is
    what upstream reported as such; it is not added up here. `reported_cost_nanousd` is what upstream says it charged.
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
    """The Usage in a decoded JSON value; None when there is nothing usable inside. Never raises."""
    if not isinstance(value, dict):
        return None
    into = _details(value, "input_tokens_details", "prompt_tokens_details")
    out = _details(value, "output_tokens_details", "completion_tokens_details")
    usage = Usage(
        input_tokens=_first_count(value, "input_tokens", "prompt_tokens"),
        cached_input_tokens=_count(into.get("cached_tokens")),
        cache_write_tokens=_count(into.get("cache_write_tokens")),
        output_tokens=_first_count(value, "output_tokens", "completion_tokens"),
        reasoning_tokens=_count(out.get("reasoning_tokens")),
        total_tokens=_count(value.get("total_tokens")),
        reported_cost_nanousd=parse_usd(value.get("cost")),
    )
    return None if usage == NOTHING else usage


def _details(value: dict[object, object], name: str, chat_name: str) -> dict[object, object]:
    """The detail object under its Responses name, else under its Chat Completions name, else an empty one."""
    details = value.get(name)
    if isinstance(details, dict):
        return details
    details = value.get(chat_name)
    return details if isinstance(details, dict) else {}


def _first_count(value: dict[object, object], name: str, chat_name: str) -> int | None:
    count = _count(value.get(name))
    return _count(value.get(chat_name)) if count is None else count


def _count(value: object) -> int | None:
    """`value` when it is a whole number from 0 to MAX_TOKENS. `type`, not isinstance: True is an int to Python."""
    if type(value) is int:
        return value if 0 <= value <= MAX_TOKENS else None
    return _count(int(value)) if type(value) is float and value.is_integer() else None
