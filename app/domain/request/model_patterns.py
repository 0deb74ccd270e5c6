"""Which models a client may use: globs for every name in a call that can make upstream use a model.

A name must match as a whole, in any case: `openai/gpt-5` does not allow `openai/gpt-5:online`, and `openai/gpt-5:*`
does. `*` is any text, `?` any one character, nothing else is special. The model behind an OpenRouter preset is
unknown: only a pattern that contains `@preset` allows one. app.domain.request.models_asked bounds the names first.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from app.domain.errors import ModelNotAllowed
from app.domain.request.models_asked import PRESET, models_asked

_WILDCARDS = frozenset("*?")


class ModelPatterns:
    """An allow-list."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        texts = [pattern.strip().lower() for pattern in self.patterns]
        self._plain = _any_of(texts)
        self._presets = _any_of([text for text in texts if PRESET in text])

    def allows(self, name: str) -> bool:
        """Whether a model with this name may be used."""
        lower = name.lower()
        return (self._presets if PRESET in lower else self._plain).fullmatch(lower) is not None

    @property
    def full_names(self) -> tuple[str, ...]:
        """The patterns that are names: those without a wildcard."""
        return tuple(pattern.strip() for pattern in self.patterns if not _WILDCARDS & set(pattern))

    def judge(self, call: Mapping[str, object]) -> None:
        """Raise ModelNotAllowed for the first name in a request body that the list does not allow."""
        judge_models((self,), call)

    def judge_name(self, param: str, name: object) -> None:
        """Raise ModelNotAllowed unless this name, from the field `param`, may be used."""
        if not isinstance(name, str):
            raise ModelNotAllowed(f"`{param}` must name a model that this client may use.", param=param)
        if not self.allows(name):
            raise ModelNotAllowed(f"This client may not use the model {name[:80]!r}.", param=param)


def judge_models(lists: Iterable[ModelPatterns], call: Mapping[str, object]) -> None:
    """Raise ModelNotAllowed for the first name in a request body that one of the allow-lists does not allow."""
    asked = models_asked(call)
    if not asked:
        raise ModelNotAllowed("This client may use certain models only: name one in `model`.", param="model")
    for patterns in lists:
        for param, name in asked:
            patterns.judge_name(param, name)
    if call.get("route") is not None and not call.get("models"):
        raise ModelNotAllowed("With `route`, `models` must name every model that may answer.", param="route")


def check_pattern(pattern: str) -> None:
    """Raise ValueError unless this can be a pattern of an allow-list."""
    if not 0 < len(pattern.strip()) <= 256 or not pattern.isprintable():
        raise ValueError(f"{pattern[:80]!r} is no pattern for names of models")


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(_glob, texts)) or r"(?!)", re.DOTALL)


def _glob(text: str) -> str:
    """A glob as a pattern whose stars never backtrack, except the last one.

    So the time is at most the length of the name times that of the glob; with plain `.*` it would grow by the length
    with every further star.
    """
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in re.sub(r"\*+", "*", text).split("*"))
    if not rest:
        return first
    return "".join((first, *(f"(?>.*?{part})" for part in rest[:-1]), f".*{rest[-1]}"))
