"""The port through which operators see the price book."""

from collections.abc import Mapping
from typing import Any, Protocol


class PriceList(Protocol):
    """The price book as operators see it: amounts are decimal text, as in the settings."""

    def find(self, model: str) -> Mapping[str, Any] | None:
        """The price of a model, if it is known."""

    def named(self) -> list[Mapping[str, Any]]:
        """The models that settings and upstream name, sorted by name."""

    def learned(self) -> Mapping[str, Any]:
        """How many `models` upstream named prices of, at which `date`, and the `problem`, if there is one."""
