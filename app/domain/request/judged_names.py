"""Judged names are the names in a request body whose values decide something. Look-alikes of them are refused.

Some upstreams ignore the case of names: Go's encoding/json reads `Model` as `model` and keeps the last of the two, and
JSON readers for .NET and Java can be set to do so. They fold Unicode as well: the Kelvin sign is a k, the long s an s.
Weighbridge must judge what such an upstream reads, so it refuses a name that differs from a judged one only in case. It
also refuses a name that a judged object has twice, since some readers keep the first.
"""

from collections.abc import Iterable, Mapping

from app.domain.errors import InvalidRequest

TOP_NAMES = frozenset(
    (
        *("model", "stream", "input", "store", "service_tier"),
        *("conversation", "previous_response_id", "prompt"),
        *("models", "plugins", "preset", "route", "tools"),
        *("background", "max_output_tokens", "safety_identifier"),
    )
)
"""Judged names of the body itself."""

NAMING = frozenset(("model", "models", "allowed_models", "analysis_models", "fallback_models"))
"""Their values name models, anywhere within a plugin or a hosted tool."""

ITEM_NAMES = frozenset(("id", "type"))
"""Judged names of an input item."""

USUAL_NAMES = TOP_NAMES | frozenset(
    (
        *("instructions", "temperature", "top_p", "top_k", "top_logprobs", "reasoning", "text", "include", "metadata"),
        *("tool_choice", "parallel_tool_calls", "max_tool_calls", "truncation", "user", "prompt_cache_key"),
        *(
            "prompt_cache_retention",
            "stream_options",
            "context_management",
            "client_metadata",
            "provider",
            "session_id",
        ),
        *("cache_control", "modalities", "image_config", "frequency_penalty", "presence_penalty", "generate"),
    )
)
"""Names that callers usually send. They are no look-alikes and need no check."""

_LONGEST = max(map(len, TOP_NAMES | NAMING))
_DOT_ABOVE = "\u0307"


class RepeatedKeys(dict[str, object]):
    """An object that had the keys `repeated` twice."""

    __slots__ = ("repeated",)

    def __init__(self, members: Mapping[str, object], repeated: frozenset[str]) -> None:
        super().__init__(members)
        self.repeated = repeated


def lookalike(keys: Iterable[str], judged: frozenset[str]) -> str | None:
    """The first key that differs from a judged name only in case."""
    for key in keys:
        if len(key) > _LONGEST or (key.islower() and key.isascii()):
            continue  # folding may lengthen a name, and never shortens one
        if key not in judged and _folded(key) in judged:
            return key
    return None


def lookalike_message(key: str) -> str:
    """The error message for a look-alike of a judged name."""
    return f"The request body has the key {key!r}, which differs from `{_folded(key)}` only in the case of letters."


def check_keys(value: dict[str, object], judged: frozenset[str], param: str) -> None:
    """Raise InvalidRequest if an object has a look-alike of a judged name, or a judged name twice."""
    if type(value) is RepeatedKeys and (repeated := value.repeated & judged):
        raise repeated_key(repeated, param)
    if (key := lookalike(value, judged)) is not None:
        raise InvalidRequest(lookalike_message(key), param=param)


def repeated_key(keys: Iterable[str], param: str) -> InvalidRequest:
    """The error for a call with an object in `param` that has these keys twice."""
    return InvalidRequest(f"`{param}` has the key {min(keys)[:64]!r} twice in one object.", param=param)


def _folded(key: str) -> str:
    """The key as the most lenient reader folds it: Java reads even the dotless and the dotted i of Turkish as i."""
    return key.upper().casefold().replace(_DOT_ABOVE, "")
