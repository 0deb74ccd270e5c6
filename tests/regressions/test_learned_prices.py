"""Issue 12, D6, F5: the price book learns from upstream's list of models, and what it knows is shown."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money.pricing import Price
from app.upstream.api.client import UpstreamQueryFailed
from app.upstream.prices.bundled import BundledPrices
from app.upstream.prices.learned import read_models
from app.upstream.prices.learner import PriceLearner
from tests.conftest import GatewayStarter
from tests.e2e.program import Mock, eventually

ENTRY: dict[str, Any] = {
    "id": "vendor/new-model",
    "canonical_slug": "vendor/new-model-20261130",
    "context_length": 250_000,
    "pricing": {
        "prompt": "0.00000125",
        "completion": "0.00001",
        "input_cache_read": "0.000000125",
        "input_cache_write": "0",
        "request": "0",
        "web_search": "0.01",
    },
}


def test_amounts_are_exact() -> None:
    told = read_models({"data": [ENTRY]}, "openrouter /models", "2026-12-01").find("Vendor/New-Model:nitro")
    assert told is not None
    assert told.price == Price(
        input=1_250_000_000,
        output=10_000_000_000,
        cached_input=125_000_000,
        cache_write=0,
        web_search=10_000_000,
        source="openrouter /models",
        date="2026-12-01",
    )
    assert told.context_tokens == 250_000
    assert json.loads(told.price.as_json())["date"] == "2026-12-01"


@pytest.mark.parametrize(
    "pricing",
    [None, {}, {"prompt": "-1", "completion": "-1"}, {"prompt": "1e999999", "completion": "1"}, {"prompt": True}, "1"],
)
def test_what_is_no_price_is_none(pricing: object) -> None:
    assert read_models({"data": [{"id": "m", "pricing": pricing}, 5, None]}, "u", "2026-12-01").models == {}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "id", "pricing", "prompt", "completion", "context_length"]), inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_document_can_be_read(document: object) -> None:
    read_models(document, "u", "2026-12-01")


def test_what_the_operator_says_wins_over_upstream_and_upstream_over_the_data() -> None:
    own = Price(input=1, output=2)
    book = BundledPrices({"vendor/new-model": own}, provider="openrouter")
    assert book.price("openai/gpt-4o-mini") != own
    entry = {**ENTRY, "id": "openai/gpt-4o-mini", "canonical_slug": None}
    book.learn(read_models({"data": [ENTRY, entry]}, "openrouter /models", "2026-12-01"))
    assert book.price("vendor/new-model") == own
    price = book.price("openai/gpt-4o-mini")
    assert price is not None
    assert (price.input, price.source) == (1_250_000_000, "openrouter /models")
    assert book.context_tokens("openai/gpt-4o-mini") == 250_000


class HandApi:
    """Answers to GET /models, given by a test."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | UpstreamQueryFailed] = []

    async def fetch_bytes(self, path: str) -> tuple[int, bytes]:
        assert path == "/models"
        answer = self.answers.pop(0)
        if isinstance(answer, UpstreamQueryFailed):
            raise answer
        return answer


async def test_what_goes_wrong_leaves_the_book_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    book, api = BundledPrices(), HandApi()
    learner = PriceLearner(api, book, "openrouter", lambda: datetime(2026, 12, 1, tzinfo=UTC))  # type: ignore[arg-type]
    api.answers = [
        (200, json.dumps({"data": [ENTRY]}).encode()),
        UpstreamQueryFailed("GET /models: refused"),
        UpstreamQueryFailed("GET /models: refused"),
        (401, b"{}"),
        (200, b"not JSON"),
        (200, b'{"object":"list","data":[{"id":"m"}]}'),
    ]
    assert await learner.ask()
    assert (learner.problem, book.learned.date) == (None, "2026-12-01")
    assert [await learner.ask() for _ in range(5)] == [False, False, False, False, True]
    assert learner.problem == "upstream's list of models names no prices"
    assert book.price("vendor/new-model") is not None
    assert len(caplog.records) == 5, "each once"


def test_a_new_model_is_priced_and_shown(mock_process: Mock, start_gateway: GatewayStarter) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1")
    gateway.command("clients", "set", "default", "--budget-usd", "5/day")
    body = {"model": "mock/no-such-model", "input": "x", "max_output_tokens": 5}
    answer = gateway.post(body)
    message = answer.json["error"]["message"]
    assert answer.status == 403
    assert '[prices."mock/no-such-model"]' in message

    eventually(lambda: gateway.admin("GET", "/prices").json["prices"], "upstream's prices")
    assert gateway.admin("GET", "/prices").json["learned"]["problem"] is None
    price = gateway.json_of("prices", "google/gemini-3-flash")
    assert (price["input"], price["output"], price["context_tokens"]) == ("0.3", "2.5", 1_000_000)
    assert price["source"].endswith(" /models")
    assert price["date"] == datetime.now(UTC).date().isoformat()
    assert gateway.post({**body, "model": "mock/free"}).status == 200
    shown = gateway.command("prices").stdout
    assert "mock/free" in shown
    assert "gemini-3-flash" in shown
    unknown = gateway.command("prices", "no-such", exit_code=1)
    assert '[prices."no-such"]' in unknown.stderr


def test_the_data_as_installed_is_shown_with_its_tiers(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    shown = gateway.command("prices", "openai/gpt-5.1").stdout
    assert "service tier flex: input" in shown
    assert "genai-prices" in shown
