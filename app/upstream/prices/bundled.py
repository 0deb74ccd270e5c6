"""The price book: the operator's own prices first, then genai-prices' data as installed. It never asks the network.

The bundled data lists what each provider charges, by its own names for its models. A name is looked up, first hit wins:

    1. among the operator's prices, as it is, then without its last `:suffix`
    2. at the provider that the upstream is known to be
    3. "vendor/model": the model at the vendor itself
    4. at the provider that the name points to ("claude-..." is Anthropic's)

Prices are per token (and per call); what upstream adds for tools, audio, service tiers or batches is not in them.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from app.domain.money.amounts import parse_usd
from app.domain.money.pricing import Price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices
    from genai_prices.types import StartDateConstraint as FromDate
    from genai_prices.types import TimeOfDateConstraint as DailyHours

    Constraint = FromDate | DailyHours
    Amounts = dict[str, Decimal | TieredPrices | None]

MAX_NAME_LENGTH = 256
CACHED_NAMES = 1024

_PROVIDER_BY_HOST = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "api.z.ai": "zai",
    "azure-api.net": "azure",
    "cognitiveservices.azure.com": "azure",
    "googleapis.com": "google",
    "openai.azure.com": "azure",
    "openrouter.ai": "openrouter",
    "services.ai.azure.com": "azure",
}
"""Hosts (and every host below them) of providers whose prices are in the data."""

_PROVIDER_BY_VENDOR = {
    "amazon": "aws",
    "anthropic": "anthropic",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "google": "google",
    "meta": "meta",
    "minimax": "minimax",
    "mistral": "mistral",
    "mistralai": "mistral",
    "moonshotai": "moonshotai",
    "openai": "openai",
    "perplexity": "perplexity",
    "x-ai": "x-ai",
    "xai": "x-ai",
    "z-ai": "zai",
}
"""Vendor prefixes of model names. Vendors that do not sell their models themselves (meta-llama, qwen) are not here:
what such a model costs is up to whoever runs it, and a wrong price is worse than none."""

_ROUTING_SUFFIXES = (":nitro", ":floor", ":exacto", ":online")
"""OpenRouter's wishes about routing: the model, and so its price per token, stays the same."""

_FREE_SUFFIX = ":free"

_AMOUNTS = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
    "per_request": "requests_kcount",
}
"""Our names for the library's amounts."""


class _Term(NamedTuple):
    """A price and when it holds; None stands for always, and for a price that is not known."""

    constraint: "Constraint | None"
    price: Price | None


_Terms = tuple[_Term, ...]


def provider_of(base_url: str) -> str | None:
    """The provider, by its id in genai-prices, that answers at `base_url`; None when the host is not one we know."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return None
    labels = host.rstrip(".").split(".")
    names = (".".join(labels[start:]) for start in range(len(labels)))
    return next((_PROVIDER_BY_HOST[name] for name in names if name in _PROVIDER_BY_HOST), None)


class BundledPrices:
    """The PriceBook port on genai-prices' data.

    The data takes some 0.4 s to load, at the first look-up or in `warm()`. A new name then costs up to a millisecond, a
    name seen before about a microsecond; names come from untrusted text, so the memory of them is bounded.
    """

    def __init__(
        self,
        overrides: Mapping[str, Price] | None = None,
        provider: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._overrides = dict(overrides or {})
        self._provider = provider
        self._now = now
        self._providers: dict[str, Provider] | None = None
        self._source = ""
        self._terms: dict[str, _Terms] = {}
        self._contexts: dict[str, int | None] = {}
        self._lock = Lock()

    def warm(self) -> None:
        """Load the data now; meant for a thread, beside the start of the server."""
        self._loaded()

    def price(self, model: str) -> Price | None:
        """The price that holds now, or None when it is not known."""
        if not 0 < len(model) <= MAX_NAME_LENGTH:
            return None
        terms = self._terms.get(model)
        if terms is None:
            terms = self._remember(model, self._look_up(model))
        for constraint, price in terms:
            if constraint is None or constraint.active(self._now()):
                return price
        return None

    def context_tokens(self, model: str) -> int | None:
        """The model's context window, or None when it is not known."""
        if not 0 < len(model) <= MAX_NAME_LENGTH:
            return None
        try:
            return self._contexts[model]
        except KeyError:
            # Of whom the price is, and of nobody else: the same model has another window elsewhere.
            window = next((found.context_window for found, _ in self._found(model, self._loaded())), None)
        with self._lock:
            if len(self._contexts) >= CACHED_NAMES:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[model] = window
        return window

    def _remember(self, model: str, terms: _Terms) -> _Terms:
        with self._lock:  # asked on the loop for prices, in the ledger's thread for labels
            if len(self._terms) >= CACHED_NAMES:
                del self._terms[next(iter(self._terms))]
            self._terms[model] = terms
        return terms

    def _look_up(self, model: str) -> _Terms:
        for name in (model, model.rpartition(":")[0]):
            if name in self._overrides:
                return (_Term(None, self._overrides[name]),)
        providers = self._loaded()
        for found, name in self._found(model, providers):
            return _terms(found, name, self._source)
        return ()

    def _found(self, model: str, providers: "Mapping[str, Provider]") -> "Iterator[tuple[ModelInfo, str]]":
        # Asked provider by provider, not through the library's own look-up: that one remembers every name for ever.
        for provider_id, name in self._readings(model.lower(), providers):
            provider = providers.get(provider_id)
            found = provider and provider.find_model(name, all_providers=list(providers.values()))
            if found:
                yield found, name

    def _readings(self, model: str, providers: "Mapping[str, Provider]") -> Iterator[tuple[str, str]]:
        """The ways to read a name, best first: (provider, the model's name there)."""
        if self._provider is not None:
            yield self._provider, model
            bare, colon, suffix = model.rpartition(":")
            if self._provider == "openrouter" and colon + suffix in _ROUTING_SUFFIXES:
                yield self._provider, bare
        vendor, slash, name = model.partition("/")
        if slash and vendor in _PROVIDER_BY_VENDOR:
            yield _PROVIDER_BY_VENDOR[vendor], name
        for provider in providers.values():
            if provider.model_match is not None and provider.model_match.is_match(model):
                yield provider.id, model
                return

    def _loaded(self) -> "dict[str, Provider]":
        if self._providers is None:
            from genai_prices.data import providers

            self._source = f"genai-prices {version('genai-prices')}"
            self._providers = {provider.id: provider for provider in providers}
        return self._providers


def _terms(model: "ModelInfo", name: str, source: str) -> _Terms:
    """A model's prices, most binding first. The library's rule is: the last that is active, else the first."""
    if not isinstance(model.prices, list):
        return (_Term(None, _price(model.prices, name, source)),)
    terms = [_Term(entry.constraint, _price(entry.prices, name, source)) for entry in reversed(model.prices)]
    return (*terms, *(_Term(None, term.price) for term in terms[-1:]))


def _price(prices: "ModelPrice", name: str, source: str) -> Price | None:
    """The library's price as ours. None when the model is not sold by input and output tokens."""
    amounts: Amounts = {ours: vars(prices).get(theirs) for ours, theirs in _AMOUNTS.items()}
    if not any(vars(prices).values()) and name.endswith(_FREE_SUFFIX):
        return Price(input=0, output=0, source=source)
    if amounts["input"] is None or amounts["output"] is None:
        return None
    thresholds = sorted({tier.start for amount in amounts.values() for tier in getattr(amount, "tiers", ())})
    tiers = tuple((above, Price(**_amounts_above(amounts, above), source=source, tiers=())) for above in thresholds)
    return Price(**_amounts_above(amounts, None), source=source, tiers=tiers)


def _amounts_above(amounts: "Amounts", threshold: int | None) -> dict[str, int]:
    """Nano-dollars by name, for a call of more input tokens than `threshold`; None is the price below every tier."""
    found = {}
    for name, amount in amounts.items():
        nanousd = parse_usd(_dollars(amount, threshold))
        if nanousd is not None:
            # The library counts calls by the thousand.
            found[name] = nanousd // 1000 if name == "per_request" else nanousd
    return found


def _dollars(amount: "Decimal | TieredPrices | None", threshold: int | None) -> Decimal | None:
    if amount is None or isinstance(amount, Decimal):
        return amount
    reached = [tier.price for tier in amount.tiers if threshold is not None and tier.start <= threshold]
    return reached[-1] if reached else amount.base
