"""Every name in a request body that can make upstream use a model, with its field."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from app.domain.errors import InvalidRequest
from app.domain.request.judged_names import NAMING, RepeatedKeys, check_keys, repeated_key

MAX_NAME_LENGTH = 256
"""Characters of a model's name."""

MAX_NAMES = 64
"""Names of models in one call."""

PRESET = "@preset"

_SCHEMAS = frozenset(("function", "custom", "namespace", "mcp", "tool_search", "local_shell", "shell", "apply_patch"))
"""Tools that the client or another server runs: a model named in them is not upstream's."""

_OWN_MODEL_PLUGINS = frozenset(("web", "file-parser", "response-healing", "context-compression"))
_OWN_MODEL_TOOLS = frozenset(("openrouter:web_search", "openrouter:web_fetch", "openrouter:datetime"))
"""OpenRouter's additions that ask no other model; all others are assumed to ask one."""

_TOOL_KIND, _PLUGIN_KIND = frozenset(("type",)), frozenset(("id",))
_IMAGE_TOOL, _IMAGE_MODEL = "image_generation", "gpt-image-1"
DEEPEST = 8
"""Levels of a tool or plugin that are searched; anything deeper counts as a name that cannot be read."""

Asked = tuple[str, object]
"""A field, and the name in it. A value that is no text is allowed by no pattern."""


def models_asked(call: Mapping[str, object]) -> list[Asked]:
    """All names. Raises InvalidRequest for too many names, a name that is too long, and what is ambiguous."""
    asked = list(islice(_all_asked(call), MAX_NAMES + 1))
    if len(asked) > MAX_NAMES:
        raise too_many(asked[-1][0])
    for param, name in asked:
        check_length(param, name)
    return asked


def check_models(model: str | None, models: object) -> None:
    """Raise InvalidRequest if `model` and `models` have too many names, or one that is too long."""
    if model is not None:
        check_length("model", model)
    if isinstance(models, list):
        if len(models) + (model is not None) > MAX_NAMES:
            raise too_many("models")
        for name in models:
            check_length("models", name)


def check_length(param: str, name: object) -> None:
    """Raise InvalidRequest if a name is too long."""
    if isinstance(name, str) and len(name) > MAX_NAME_LENGTH:
        raise InvalidRequest(f"`{param}` names a model by more than {MAX_NAME_LENGTH} characters.", param=param)


def too_many(param: str) -> InvalidRequest:
    """The error for a call that names too many models."""
    return InvalidRequest(f"The request body names more than {MAX_NAMES} models.", param=param)


def of_plugin(plugin: object) -> Iterator[object]:
    """The names in one entry of `plugins`, and the plugin itself if it may ask another model."""
    yield from _named_in(plugin, "plugins", NAMING | _PLUGIN_KIND)
    kind = plugin.get("id") if isinstance(plugin, dict) else None
    if not isinstance(kind, str) or kind not in _OWN_MODEL_PLUGINS:
        yield f"plugin {kind if isinstance(kind, str) else None}"


def of_tool(tool: object) -> Iterator[object]:
    """The names in one entry of `tools`, and the tool itself if it may ask another model."""
    kind = None
    if isinstance(tool, dict):
        check_keys(tool, _TOOL_KIND, "tools")
        kind = tool.get("type")
    if isinstance(kind, str) and kind in _SCHEMAS:
        return
    named = False
    for name in _named_in(tool, "tools", NAMING):
        named = True
        yield name
    if named or not isinstance(kind, str):
        return
    if kind == _IMAGE_TOOL:
        yield _IMAGE_MODEL
    elif kind.startswith("openrouter:") and kind not in _OWN_MODEL_TOOLS:
        yield f"tool {kind}"


def _all_asked(call: Mapping[str, object]) -> Iterator[Asked]:
    if call.get("model") is not None:
        yield "model", call["model"]
    models = call.get("models")
    if models is not None:
        yield from _in_field("models", models if isinstance(models, list) and models else [None])
    preset = call.get("preset")
    if preset is not None:
        yield "preset", f"{PRESET}/{preset}" if isinstance(preset, str) else None
    for plugin in _entries(call, "plugins"):
        yield from _in_field("plugins", of_plugin(plugin))
    for tool in _entries(call, "tools"):
        yield from _in_field("tools", of_tool(tool))


def _in_field(param: str, names: Iterable[object]) -> Iterator[Asked]:
    return ((param, name) for name in names)


def _entries(call: Mapping[str, object], key: str) -> Sequence[object]:
    entries = call.get(key)
    return entries if isinstance(entries, list) else () if entries is None else (entries,)


def _named_in(root: object, param: str, outermost: frozenset[str]) -> Iterator[object]:
    """Values of NAMING keys at any depth, found without recursion."""
    waiting: list[tuple[object, int]] = [(root, 0)]
    while waiting:
        value, depth = waiting.pop()
        beyond = False
        if isinstance(value, dict):
            if type(value) is RepeatedKeys:
                raise repeated_key(value.repeated, param)
            check_keys(value, NAMING if depth else outermost, param)
            for key, inner in value.items():
                if key in NAMING:
                    yield from inner if isinstance(inner, list) else () if inner is None else (inner,)
                elif depth == DEEPEST:
                    beyond = True
                elif isinstance(inner, (dict, list)):
                    waiting.append((inner, depth + 1))
        elif isinstance(value, list):
            beyond = depth == DEEPEST and bool(value)
            waiting.extend((inner, depth + 1) for inner in value if not beyond and isinstance(inner, (dict, list)))
        if beyond:
            yield None
