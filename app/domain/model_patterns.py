"""Which models a client may use: globs against every name in a call that can make upstream use a model.

A name must match as a whole, in any case of letters: `openai/gpt-5` does not allow `openai/gpt-5:online`, and
`openai/gpt-5:*` does. `*` is any text, `?` any one character, nothing else is special. A preset of OpenRouter's stands
for a model that nobody here knows: only a pattern that itself begins a preset's name (`@preset/...`) allows it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from app.domain.errors import ModelNotAllowed

_PRESET = "@preset"
_NAMING = frozenset(("model", "models", "allowed_models", "analysis_models", "fallback_models"))
"""Keys whose values name models, wherever they stand in a plugin or a hosted tool."""

_SCHEMAS = frozenset(("function", "custom", "namespace", "mcp", "tool_search", "local_shell", "shell", "apply_patch"))
"""Tools that the client runs, or another server: what they call a model is no model of upstream's."""

_OWN_MODEL_PLUGINS = frozenset(("web", "file-parser", "response-healing", "context-compression"))
_OWN_MODEL_TOOLS = frozenset(("openrouter:web_search", "openrouter:web_fetch", "openrouter:datetime"))
"""What OpenRouter adds to a call without asking another model; whatever else it has is taken to ask one."""

_IMAGE_TOOL, _IMAGE_MODEL = "image_generation", "gpt-image-1"
_DEEPEST = 8


class ModelPatterns:
    """An allow-list."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        texts = [pattern.strip().lower() for pattern in self.patterns]
        self._plain = _any_of(texts)
        self._presets = _any_of([text for text in texts if _PRESET in text])

    def allows(self, name: str) -> bool:
        """Whether a model of this name may be used."""
        lower = name.lower()
        return (self._presets if _PRESET in lower else self._plain).fullmatch(lower) is not None

    def judge(self, call: Mapping[str, object]) -> None:
        """Raise ModelNotAllowed for the first thing in a request body that may lead to another model."""
        names = list(models_asked(call))
        if not names:
            raise ModelNotAllowed("This client may use certain models only: name one in `model`.", param="model")
        for param, name in names:
            if not isinstance(name, str):
                raise ModelNotAllowed(f"`{param}` must name a model that this client may use.", param=param)
            if not self.allows(name):
                raise ModelNotAllowed(f"This client may not use the model {name[:80]!r}.", param=param)
        _judge_routing(call)


def models_asked(call: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Every name in a body that can decide which model answers, with the field it stands in."""
    if call.get("model") is not None:
        yield "model", call["model"]
    models = call.get("models")
    if models is not None:
        yield from (("models", name) for name in (models if isinstance(models, list) and models else [None]))
    preset = call.get("preset")
    if preset is not None:
        yield "preset", f"{_PRESET}/{preset}" if isinstance(preset, str) else None
    yield from (("plugins", name) for plugin in _entries(call, "plugins") for name in _of_plugin(plugin))
    yield from (("tools", name) for tool in _entries(call, "tools") for name in _of_tool(tool))


def check_pattern(pattern: str) -> None:
    """Raise ValueError unless this can be a pattern of an allow-list."""
    if not 0 < len(pattern.strip()) <= 256 or not pattern.isprintable():
        raise ValueError(f"{pattern[:80]!r} is no pattern for names of models")


def _judge_routing(call: Mapping[str, object]) -> None:
    if call.get("route") is not None and not call.get("models"):
        raise ModelNotAllowed("With `route`, `models` must name every model that may answer.", param="route")


def _entries(call: Mapping[str, object], key: str) -> Sequence[object]:
    entries = call.get(key)
    return entries if isinstance(entries, list) else () if entries is None else (entries,)


def _of_plugin(plugin: object) -> Iterator[object]:
    yield from _named_in(plugin)
    kind = plugin.get("id") if isinstance(plugin, dict) else None
    if kind not in _OWN_MODEL_PLUGINS:
        yield f"plugin {kind}"


def _of_tool(tool: object) -> Iterator[object]:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind in _SCHEMAS:
        return
    named = list(_named_in(tool))
    yield from named
    if kind == _IMAGE_TOOL and not named:
        yield _IMAGE_MODEL
    elif isinstance(kind, str) and kind.startswith("openrouter:") and kind not in _OWN_MODEL_TOOLS and not named:
        yield f"tool {kind}"


def _named_in(value: object, depth: int = 0) -> Iterator[object]:
    if depth > _DEEPEST:
        yield None
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in _NAMING:
                yield from inner if isinstance(inner, list) else [inner] if inner is not None else []
            else:
                yield from _named_in(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _named_in(inner, depth + 1)


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    globs = (re.escape(text).replace(r"\*", ".*").replace(r"\?", ".") for text in texts)
    return re.compile("|".join(globs) or r"(?!)", re.DOTALL)
