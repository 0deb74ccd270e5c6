"""Finds a model in genai-prices' data by its name, as the library does, in microseconds.

The library tries the pattern of each of some thousand models, up to a millisecond a name, and one call may have 64
names. Nearly all models have plain names, which are looked up here; only real patterns are tried.
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$")


class ModelIndex:
    """The models of all providers, by provider id."""

    def __init__(self, providers: "Iterable[Provider]") -> None:
        self.providers = {provider.id: provider for provider in providers}
        self._tables = {provider.id: _Table(provider.models) for provider in self.providers.values()}

    def find(self, provider_id: str, name: str) -> "ModelInfo | None":
        """The model with this name (in lower case) at a provider, or at one whose models it sells."""
        dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
        return self._find(provider_id, name) or (self._find(provider_id, dashed) if dashed != name else None)

    def _find(self, provider_id: str, name: str) -> "ModelInfo | None":
        provider = self.providers.get(provider_id)
        if provider is None:
            return None
        tables = (self._tables.get(seller) for seller in (provider_id, *(provider.fallback_model_providers or ())))
        return next((found for table in tables if table is not None and (found := table.find(name))), None)


class _Table:
    """The models of one provider. The first that matches wins."""

    def __init__(self, models: "list[ModelInfo]") -> None:
        self._models = models
        self._by_name: dict[str, int] = {}
        self._by_pattern: list[int] = []
        for place, model in enumerate(models):
            names = _plain_names(model.match)
            if names is None:
                self._by_pattern.append(place)
            else:
                for name in names:
                    self._by_name.setdefault(name, place)

    def find(self, name: str) -> "ModelInfo | None":
        exact = self._by_name.get(name, len(self._models))
        for place in self._by_pattern:
            if place > exact:
                break
            if self._models[place].match.is_match(name):
                return self._models[place]
        return self._models[exact] if exact < len(self._models) else None


def _plain_names(clause: object) -> list[str] | None:
    """The names that a clause matches, if it has only plain names."""
    if isinstance(name := getattr(clause, "equals", None), str):
        return [name.lower()]
    either = getattr(clause, "or_", None)
    if not isinstance(either, list):
        return None
    found = list(_each(either))
    return None if None in found else [name for names in found for name in names or ()]


def _each(clauses: list[object]) -> Iterator[list[str] | None]:
    return map(_plain_names, clauses)
