"""What is known of prices, for those who ask."""

from collections.abc import Mapping
from typing import Any, Protocol


class PriceList(Protocol):
    """The price book as operators see it: amounts are decimal text, as in the settings."""

    def find(self, model: str) -> Mapping[str, Any] | None:
        """What is known of a model, if anything."""

    def named(self) -> list[Mapping[str, Any]]:
        """The models that settings and upstream name, by name; of others only what is asked for is known."""

    def learned(self) -> Mapping[str, Any]:
        """Of how many `models` upstream told prices, at which `date`; and what the `problem` is, if there is one."""
