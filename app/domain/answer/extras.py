"""What else in an answer decides its cost: the service tier, hosted tools, tokens of other kinds.

OpenAI puts `service_tier`, `tool_usage` and `output` beside `usage`; OpenRouter puts `server_tool_use_details` into it.
The `output` of an answer that is too large to be decoded is not read.
"""

from typing import NamedTuple

from app.domain.answer.error_code import Json, object_of
from app.domain.answer.usage import count_of

WEB_SEARCHES, FILE_SEARCHES, IMAGES = "web searches", "file searches", "images"
_HOSTED = {
    "web_search_call": WEB_SEARCHES,
    "file_search_call": FILE_SEARCHES,
    "image_generation_call": IMAGES,
    "code_interpreter_call": "code interpreter calls",
}
"""Output items of upstream's own tools, which may cost a fee."""

_PLAIN_DETAILS = frozenset(("cached_tokens", "cache_write_tokens", "cache_write_tokens_details", "reasoning_tokens"))
_OTHER_TOKENS = ("audio_tokens", "image_tokens", "video_tokens")
_LONGEST_TIER = 32


class Extras(NamedTuple):
    """Counts; None means unknown. `seen` counts the items of hosted tools in the output, by their plain name."""

    service_tier: str | None = None
    web_searches: int | None = None
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    seen: tuple[tuple[str, int], ...] = ()
    other_tokens: tuple[str, ...] = ()
    unread: bool = False  # the output was too large to be read, and nothing else counts the tools


NO_EXTRAS = Extras()
_DEFAULT_TIER = Extras(service_tier="default")


def read_extras(response: Json) -> Extras:
    """The extras of a decoded response. Never raises."""
    output = response.get("output")
    seen: dict[str, int] = {}
    if isinstance(output, list):
        for item in output:
            kind = item.get("type") if isinstance(item, dict) else None
            if isinstance(kind, str) and kind in _HOSTED:
                seen[_HOSTED[kind]] = seen.get(_HOSTED[kind], 0) + 1
    tools = response.get("tool_usage")
    if output == {} and not tools:  # a JsonExtractor leaves this of a long output
        return NO_EXTRAS._replace(unread=True, service_tier=_tier(response))
    usage = response.get("usage")
    details = usage if isinstance(usage, dict) else {}
    into, out = details.get("input_tokens_details"), details.get("output_tokens_details")
    if (
        seen
        or tools
        or "server_tool_use_details" in details
        or (isinstance(into, dict) and not into.keys() <= _PLAIN_DETAILS)
        or (isinstance(out, dict) and not out.keys() <= _PLAIN_DETAILS)
    ):
        return _read_closely(response, details, seen)
    tier = _tier(response)
    return NO_EXTRAS if tier is None else _DEFAULT_TIER if tier == "default" else Extras(tier)


def _tier(response: Json) -> str | None:
    tier = response.get("service_tier")
    return tier[:_LONGEST_TIER] if isinstance(tier, str) else None


def _read_closely(response: Json, usage: Json, seen: dict[str, int]) -> Extras:
    tools = object_of(response.get("tool_usage"))
    searches = object_of(tools.get("web_search")).get("num_requests")
    if searches is None:
        searches = object_of(usage.get("server_tool_use_details")).get("web_search_requests")
    images = object_of(tools.get("image_gen"))
    into, out = object_of(usage.get("input_tokens_details")), object_of(usage.get("output_tokens_details"))
    return Extras(
        _tier(response),
        count_of(searches),
        count_of(images.get("input_tokens")) or 0,
        count_of(images.get("output_tokens")) or 0,
        tuple(seen.items()),
        tuple(name for name in _OTHER_TOKENS if count_of(into.get(name)) or count_of(out.get(name))),
    )
