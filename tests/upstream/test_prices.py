"""The price book on the data as installed. Expected amounts come from it, or belong to models that will not change."""

import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from genai_prices.data import providers

from app.domain.answer.usage import Usage
from app.domain.money.pricing import Price, cost
from app.upstream.prices.bundled import CACHED_NAMES, MAX_NAME_LENGTH, BundledPrices
from app.upstream.prices.model_index import ModelIndex
from app.upstream.prices.providers import PROVIDER_BY_HOST, PROVIDER_BY_VENDOR, provider_of

if TYPE_CHECKING:
    from app.gateway.ports import PriceBook

OURS = Price(input=1, output=2)
FREE = Price(input=0, output=0)
IDS = {provider.id for provider in providers}


def at(*moment: int) -> Callable[[], datetime]:
    return lambda: datetime(*moment, tzinfo=UTC)  # type: ignore[arg-type,misc]


def amounts(price: Price | None) -> tuple[int, int | None, int]:
    assert price is not None
    return price.input, price.cached_input, price.output


GPT_4O_MINI = (150_000_000, 75_000_000, 600_000_000)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4o-mini-2024-07-18"),
        ("openai", "openai/gpt-4o-mini"),
        ("openrouter", "openai/gpt-4o-mini"),
        ("openrouter", "OpenAI/GPT-4o-mini"),
        ("openrouter", "openai/gpt-4o-mini:nitro"),
        ("openrouter", "openai/gpt-4o-mini:online"),
        ("azure", "gpt-4o-mini"),
        (None, "openai/gpt-4o-mini"),
        (None, "gpt-4o-mini"),
        ("no-such-provider", "gpt-4o-mini"),
    ],
)
def test_names_of_one_model(provider: str | None, model: str) -> None:
    assert amounts(BundledPrices(provider=provider).price(model)) == GPT_4O_MINI


def test_the_hinted_provider_comes_first() -> None:
    """The same name at two providers is two prices."""
    groq, openai = (BundledPrices(provider=name).price("openai/gpt-oss-120b") for name in ("groq", "openai"))
    found = next(model for p in providers if p.id == "groq" for model in p.models if model.id == "openai/gpt-oss-120b")
    assert amounts(groq)[0] == found.get_prices(datetime.now(UTC)).input_mtok * 10**9  # type: ignore[operator]
    assert groq != openai


@pytest.mark.parametrize(
    "model", ["anthropic/claude-sonnet-4.5", "google/gemini-2.5-pro", "x-ai/grok-4", "mistralai/mistral-small-latest"]
)
def test_vendor_prefixes(model: str) -> None:
    assert BundledPrices().price(model) is not None


@pytest.mark.parametrize(
    "model",
    ["", "nobody/no-such-model", "gpt-4o-banana", "meta-llama/llama-3.3-70b-instruct", "x" * (MAX_NAME_LENGTH + 1)],
)
def test_unknown_is_none(model: str) -> None:
    assert BundledPrices().price(model) is None


@pytest.mark.parametrize("model", ["text-embedding-3-small", "openai/text-embedding-3-small"])
def test_what_is_not_sold_by_input_and_output_has_no_price(model: str) -> None:
    assert BundledPrices().price(model) is None


def test_free_is_zero_and_not_unknown() -> None:
    price = BundledPrices(provider="openrouter").price("openai/gpt-oss-20b:free")
    assert amounts(price) == (0, None, 0)


def test_an_unknown_variant_is_not_priced_as_the_plain_model() -> None:
    assert BundledPrices(provider="openrouter").price("openai/gpt-4o-mini:free") is None


def test_overrides_come_first_and_also_without_their_suffix() -> None:
    book = BundledPrices({"gpt-4o-mini": OURS, "house/model": OURS, "a:b": FREE}, provider="openai")
    assert book.price("gpt-4o-mini") == book.price("house/model:free") == OURS
    assert book.price("a:b") == FREE
    assert book.price("house/other") is None


def test_an_override_needs_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BundledPrices, "_loaded", lambda _: pytest.fail("loaded"))
    assert BundledPrices({"m": OURS}).price("m") == OURS


def test_source_names_the_data() -> None:
    price = BundledPrices(provider="openai").price("gpt-4o-mini")
    assert price is not None
    assert price.source.startswith("genai-prices ")
    assert '"input":"0.15"' in price.as_json()


def test_tiers() -> None:
    price = BundledPrices(provider="google").price("gemini-2.5-pro")
    assert price is not None
    assert amounts(price.at(200_000)) == (1_250_000_000, 125_000_000, 10_000_000_000)
    assert amounts(price.at(200_001)) == (2_500_000_000, 250_000_000, 15_000_000_000)


def test_price_per_request() -> None:
    price = BundledPrices(provider="perplexity").price("sonar")
    assert price is not None
    assert price.per_request == 12_000_000


@pytest.mark.parametrize("start", [(2025, 6, 10), (2026, 1, 1)])
def test_prices_follow_the_calendar(start: tuple[int, int, int]) -> None:
    """o3 became five times cheaper on 10 June 2025."""
    assert amounts(BundledPrices(provider="openai", now=at(*start)).price("o3"))[0] == 2_000_000_000
    assert amounts(BundledPrices(provider="openai", now=at(2025, 6, 9)).price("o3"))[0] == 10_000_000_000


def test_a_remembered_name_is_not_a_remembered_hour() -> None:
    clock = [datetime(2025, 6, 9, 23, 59, tzinfo=UTC)]
    book = BundledPrices(provider="openai", now=lambda: clock[0])
    before = amounts(book.price("o3"))
    clock[0] = datetime(2025, 6, 10, tzinfo=UTC)
    assert before > amounts(book.price("o3"))


def test_the_memory_of_names_is_bounded() -> None:
    book = BundledPrices(provider="novita")
    for number in range(CACHED_NAMES + 50):
        assert book.price(f"random-{number}") is None
    assert len(book._terms) == CACHED_NAMES
    assert "random-0" not in book._terms
    assert f"random-{CACHED_NAMES + 49}" in book._terms


@pytest.mark.parametrize("provider", ["openai", "anthropic", "openrouter", "x-ai", "deepseek"])
def test_agrees_with_the_library_on_every_model(provider: str) -> None:
    """Our arithmetic against theirs, below every tier and above."""
    now = datetime(2026, 10, 1, 12, tzinfo=UTC)
    book = BundledPrices(provider=provider, now=lambda: now)
    models = next(entry.models for entry in providers if entry.id == provider)
    checked = 0
    for model in models:
        price = book.price(model.id)
        theirs = model.get_prices(now)
        if price is None or next(m for m in models if m.is_match(model.id)) is not model:
            continue  # not sold by tokens, or its id means another model first
        for size in (1_000, 1_000_000):
            usage = {
                "input_tokens": size,
                "cache_read_tokens": size // 2,
                "cache_write_tokens": 100,
                "output_tokens": 7,
            }
            expected = theirs.calc_price(usage)["total_price"] * Decimal(10**9)
            ours = cost(Usage(size, size // 2, 100, 7), price)
            assert ours is not None
            assert abs(ours - expected) <= 1, model.id  # rates are kept to a billionth of a dollar per million
        checked += 1
    assert checked >= len(models) // 2


def test_every_provider_named_here_is_in_the_data() -> None:
    assert {*PROVIDER_BY_HOST.values(), *PROVIDER_BY_VENDOR.values()} <= IDS


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://OpenRouter.ai:443/api/v1", "openrouter"),
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://house.openai.azure.com/openai/v1", "azure"),
        ("https://api.x.ai/v1", "x-ai"),
        ("https://api.openai.com.example.org/v1", None),
        ("https://notopenrouter.ai/api/v1", None),
        ("http://127.0.0.1:9797/v1", None),
        ("http://[::1]:9797/v1", None),
        ("http://[oops/v1", None),
        ("openrouter.ai", None),
        ("", None),
    ],
)
def test_provider_of_a_base_url(url: str, provider: str | None) -> None:
    assert provider_of(url) == provider


def test_the_data_is_not_loaded_by_importing() -> None:
    code = "import sys, app.upstream.prices.bundled as p; p.BundledPrices(); sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_never_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the price book dialled"))
    book: PriceBook = BundledPrices(provider="openrouter")
    assert book.price("openai/gpt-4o-mini") is not None


def test_the_context_of_a_model_is_known_by_the_names_that_have_a_price() -> None:
    book = BundledPrices()
    windows = {book.context_tokens(name) for name in ("gpt-4o-mini", "openai/gpt-4o-mini")}
    assert windows == {128_000}
    for name in ("", "nobody/knows", "x" * (MAX_NAME_LENGTH + 1)):
        assert book.context_tokens(name) is None
        assert book.context_tokens(name) is None  # remembered as unknown


def test_a_context_is_of_whom_the_price_is() -> None:
    """DeepSeek's window of a model says nothing of OpenRouter's, whose price it is."""
    book = BundledPrices(provider="openrouter")
    (openrouter,) = (provider for provider in providers if provider.id == "openrouter")
    windows = {model.id: model.context_window for model in openrouter.models if book.price(model.id) is not None}
    assert {name: book.context_tokens(name) for name in windows} == windows


def test_the_memory_of_contexts_is_bounded() -> None:
    book = BundledPrices()
    for number in range(CACHED_NAMES + 5):
        book.context_tokens(f"nobody/{number}")
    assert len(book._contexts) == CACHED_NAMES


def test_the_index_finds_what_the_library_finds() -> None:
    index = ModelIndex(providers)
    every = list(providers)
    names = {
        text for provider in every for model in provider.models for text in (model.id.lower(), *texts(model.match))
    }
    for provider in every:
        for name in [*sorted(names)[:: 1 + len(names) // 40], *(model.id.lower() for model in provider.models[::9])]:
            for spelled in (name, f"{name}-20251113", f"{name}-x"):
                assert index.find(provider.id, spelled) is provider.find_model(spelled, all_providers=every), spelled


def texts(clause: object) -> list[str]:
    """What the clauses of a match compare with."""
    inner = [text for part in getattr(clause, "or_", ()) for text in texts(part)]
    return [*inner, *(value.lower() for value in vars(clause).values() if isinstance(value, str))]
