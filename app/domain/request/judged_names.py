"""The names within a request body whose values decide something, and the names that pass for one of them elsewhere.

Some upstreams read names in any case of letters: Go's encoding/json takes `Model` for `model` and keeps the last of the
two, and so do JSON readers for .NET and Java when they are told to. It folds Unicode as well: the Kelvin sign is a k,
the long s an s. What we judge must be what such an upstream reads, so a name that equals a judged one but for case is
refused. So is a name that stands twice in an object that is judged, of which some readers take the first.
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
"""Of the body itself."""

NAMING = frozenset(("model", "models", "allowed_models", "analysis_models", "fallback_models"))
"""Their values name models, wherever they stand in a plugin or a hosted tool."""

ITEM_NAMES = frozenset(("id", "type"))
"""Of an input item."""

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
"""Names that callers send and that are no look-alikes: they need no closer look."""

_LONGEST = max(map(len, TOP_NAMES | NAMING))
_DOT_ABOVE = "\u0307"


class RepeatedKeys(dict[str, object]):
    """An object in which keys stood twice; `repeated` are those."""

    __slots__ = ("repeated",)

    def __init__(self, members: Mapping[str, object], repeated: frozenset[str]) -> None:
        super().__init__(members)
        self.repeated = repeated


def lookalike(keys: Iterable[str], judged: frozenset[str]) -> str | None:
    """The first key that is none of the judged names and equals one but for case."""
    for key in keys:
        if len(key) > _LONGEST or (key.islower() and key.isascii()):
            continue  # folding may lengthen a name, and never shortens one
        if key not in judged and _folded(key) in judged:
            return key
    return None


def lookalike_message(key: str) -> str:
    """What a caller is told of a look-alike of a judged name."""
    return f"The request body has the key {key!r}, which differs from `{_folded(key)}` only in the case of letters."


def check_keys(value: dict[str, object], judged: frozenset[str], param: str) -> None:
    """Raise InvalidRequest if a key of an object passes for a judged one, or a judged one stood there twice."""
    if type(value) is RepeatedKeys and (repeated := value.repeated & judged):
        raise repeated_key(repeated, param)
    if (key := lookalike(value, judged)) is not None:
        raise InvalidRequest(lookalike_message(key), param=param)


def repeated_key(keys: Iterable[str], param: str) -> InvalidRequest:
    """What a call gets in whose `param` an object has these keys twice."""
    return InvalidRequest(f"`{param}` has the key {min(keys)[:64]!r} twice in one object.", param=param)


def _folded(key: str) -> str:
    """As the most generous reader folds it: Java's takes even the dotless and the dotted i of Turkish for an i."""
    return key.upper().casefold().replace(_DOT_ABOVE, "")
