"""The price book as operators see it."""

from typing import Any

from app.domain.money.pricing import Price, as_mapping
from app.upstream.prices.bundled import BundledPrices
from app.upstream.prices.learner import PriceLearner


class PriceListing:
    """The gateway's PriceList. A server with an upstream key has a `learner`."""

    def __init__(self, book: BundledPrices, learner: PriceLearner | None) -> None:
        self._book = book
        self._learner = learner

    def find(self, model: str) -> dict[str, Any] | None:
        """The price of a model, if it is known."""
        price = self._book.price(model)
        return None if price is None else self._shown(model, price)

    def named(self) -> list[dict[str, Any]]:
        """The models that settings and upstream name, by name."""
        names = sorted({*self._book.overrides, *self._book.learned.models})
        found = ((name, self._book.price(name)) for name in names)
        return [self._shown(name, price) for name, price in found if price is not None]

    def learned(self) -> dict[str, Any]:
        """What was learned from upstream."""
        problem = "only a running server with an upstream key asks" if self._learner is None else self._learner.problem
        return {"models": len(self._book.learned.models), "date": self._book.learned.date, "problem": problem}

    def _shown(self, model: str, price: Price) -> dict[str, Any]:
        return {
            "model": model,
            **as_mapping(price),
            "context_tokens": self._book.context_tokens(model),
            "source": "settings" if price.source == "config" else price.source,
            "date": price.date,
        }
