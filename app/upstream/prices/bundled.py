"""The price book: the operator's own prices, then upstream's, then genai-prices' data as installed.

A name is looked up in this order:

    1. in the operator's prices, as it is, then without its last `:suffix`
    2. in upstream's own list of models (app.upstream.prices.learned)
    3. in the data, which has each provider's prices by its own names of models:
       a. at the provider that answers at the upstream's host
       b. "vendor/model": the model at the vendor itself
       c. at the provider that the name points to ("claude-..." is Anthropic's)

Prices are per token and call, by input tokens and service tier, with the fees of web and file searches if they are
known. Prices of sound, batches and other additions are not in them.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from app.domain.money.price_table import price_from_config
from app.domain.money.pricing import Price
from app.upstream.prices.bundled_price import Term, Terms, terms_of
from app.upstream.prices.learned import NOTHING_LEARNED, ROUTING_SUFFIXES, LearnedPrices
from app.upstream.prices.model_index import ModelIndex
from app.upstream.prices.providers import PROVIDER_BY_VENDOR, provider_of

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

MAX_NAME_LENGTH = 256
CACHED_NAMES = 1024

Value = TypeVar("Value")


class BundledPrices:
    """The PriceBook port.

    The data takes about 0.4 s to load, at the first look-up or in `warm()`. After that, a new name takes some ten
    microseconds, a known name about one. The memory of names is bounded, since callers choose them.
    """

    def __init__(
        self,
        overrides: Mapping[str, Price] | None = None,
        provider: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.overrides = dict(overrides or {})
        self.learned = NOTHING_LEARNED
        self._provider = provider
        self._now = now
        self._index: ModelIndex | None = None
        self._source = ""
        self._terms: dict[str, Terms] = {}
        self._contexts: dict[str, int | None] = {}
        self._lock = Lock()

    @classmethod
    def of(cls, tables: Mapping[str, Mapping[str, object]], base_url: str) -> "BundledPrices":
        """The price book with the operator's tables by model, for the provider that answers at the URL."""
        overrides = {model: price_from_config(table) for model, table in tables.items()}
        return cls(overrides, provider_of(base_url))

    def warm(self) -> None:
        """Load the data now. Meant for a thread while the server starts."""
        self._loaded()

    def learn(self, learned: LearnedPrices) -> None:
        """Replace the learned prices."""
        with self._lock:
            self.learned = learned
            self._terms, self._contexts = {}, {}

    def price(self, model: str) -> Price | None:
        """The price that holds now."""
        terms = self._terms.get(model)
        if terms is None:
            terms = self._remember(self._terms, model, self._look_up)
        for constraint, price in terms:
            if constraint is None or constraint.active(self._now()):
                return price
        return None

    def context_tokens(self, model: str) -> int | None:
        """The model's context window."""
        try:
            return self._contexts[model]
        except KeyError:
            return self._remember(self._contexts, model, self._look_up_context)

    def _remember(self, memory: dict[str, Value], model: str, look_up: Callable[[str], Value]) -> Value:
        found = look_up(model)
        if len(model) <= MAX_NAME_LENGTH:
            with self._lock:  # the loop asks for prices, the ledger's thread for labels
                if len(memory) >= CACHED_NAMES:
                    del memory[next(iter(memory))]
                memory[model] = found
        return found

    def _look_up(self, model: str) -> Terms:
        for name in (model, model.rpartition(":")[0]):
            if name in self.overrides:
                return (Term(None, self.overrides[name]),)
        if (learned := self.learned.find(model)) is not None:
            return (Term(None, learned.price),)
        for found, name in self._found(model):
            return terms_of(found, name, self._source, self._now())
        return ()

    def _look_up_context(self, model: str) -> int | None:
        """The window at the provider whose price applies: the same model has another one elsewhere."""
        learned = self.learned.find(model)
        if learned is not None and learned.context_tokens is not None:
            return learned.context_tokens
        return next((found.context_window for found, _ in self._found(model)), None)

    def _found(self, model: str) -> "Iterator[tuple[ModelInfo, str]]":
        if not 0 < len(model) <= MAX_NAME_LENGTH:
            return
        index = self._loaded()
        for provider_id, name in self._readings(model.lower(), index):
            found = index.find(provider_id, name)
            if found is not None:
                yield found, name

    def _readings(self, model: str, index: ModelIndex) -> Iterator[tuple[str, str]]:
        """The ways to read a name, best first: (provider, the model's name there)."""
        if self._provider is not None:
            yield self._provider, model
            bare, colon, suffix = model.rpartition(":")
            if self._provider == "openrouter" and colon + suffix in ROUTING_SUFFIXES:
                yield self._provider, bare
        vendor, slash, name = model.partition("/")
        if slash and vendor in PROVIDER_BY_VENDOR:
            yield PROVIDER_BY_VENDOR[vendor], name
        for provider in index.providers.values():
            if provider.model_match is not None and provider.model_match.is_match(model):
                yield provider.id, model
                return

    def _loaded(self) -> ModelIndex:
        if self._index is None:
            from genai_prices.data import providers

            self._source = f"genai-prices {version('genai-prices')}"
            self._index = ModelIndex(providers)
        return self._index
