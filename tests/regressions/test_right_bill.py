"""Issue 12, D1, D2: a cost that leaves something out says so, and no estimate is more than a call can come to."""

from typing import Any

import pytest

from app.domain.answer.extras import Extras
from app.domain.answer.usage import Usage
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.price_table import price_from_config
from app.domain.money.pricing import Price, as_mapping
from app.domain.money.windows import Period
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.gateway.exchange.settlement import settle_by_upstream
from app.gateway.ports import UpstreamUsage
from app.upstream.prices.bundled import BundledPrices
from tests.gateway.house import JSON_CALL, House, event, response, usage

TABLE = {
    "input": "1",
    "output": "10",
    "web_search": "0.01",
    "image_output": "40",
    "service_tiers": {"flex": {"input": "0.5", "output": "5"}, "priority": {"input": "2", "output": "20"}},
}
PRICE = price_from_config(TABLE)


@pytest.fixture
def house() -> House:
    house = House(at_once=True)
    house.prices["m-served"] = PRICE
    return house


def billed(house: House, asked: bytes = b'{"model":"m-asked"}', **answer: Any) -> Record:  # noqa: ANN401 - any JSON
    visit = house.visit(asked)
    visit.upstream.stream_head()
    visit.upstream.data(event("response.completed", response={**response(usage=usage(1000, 100)), **answer}))
    return visit.record


@pytest.mark.parametrize(
    ("tier", "nanousd", "source", "detail"),
    [
        (None, 2_000_000, CostSource.PRICED, None),
        ("default", 2_000_000, CostSource.PRICED, None),
        ("flex", 1_000_000, CostSource.PRICED, None),
        ("priority", 4_000_000, CostSource.PRICED, None),
        ("scale", 2_000_000, CostSource.ESTIMATED, "no price is known for the service tier 'scale'"),
    ],
)
def test_the_service_tier_that_served(
    house: House, tier: str | None, nanousd: int, source: CostSource, detail: str | None
) -> None:
    record = billed(house, service_tier=tier)
    assert (record.cost_nanousd, record.cost_source, record.cost_detail) == (nanousd, source, detail)


def test_a_tier_that_was_asked_for_and_is_not_told(house: House) -> None:
    record = billed(house, b'{"model":"m-asked","service_tier":"priority"}')
    assert (record.cost_nanousd, record.cost_source) == (4_000_000, CostSource.ESTIMATED)
    assert record.cost_detail == "the answer does not say whether the service tier 'priority' served it"


TOOLS: list[tuple[dict[str, Any], int, CostSource, str | None]] = [
    ({"tool_usage": {"web_search": {"num_requests": 3}}}, 32_000_000, CostSource.PRICED, None),
    (
        {"output": [{"type": "web_search_call"}, {"type": "message"}]},
        12_000_000,
        CostSource.ESTIMATED,
        "web searches are counted by the output",
    ),
    (
        {"tool_usage": {"image_gen": {"input_tokens": 5, "output_tokens": 100}}},
        6_000_000,
        CostSource.ESTIMATED,
        "5 image input tokens",
    ),
    ({"output": [{"type": "code_interpreter_call"}] * 2}, 2_000_000, CostSource.ESTIMATED, "2 code interpreter calls"),
    (
        {"output": [{"type": "file_search_call"}]},
        2_000_000,
        CostSource.ESTIMATED,
        "file searches are counted by the output; 1 file searches",
    ),
    ({"output": [{"type": ["x"]}, 5, {"type": "reasoning"}]}, 2_000_000, CostSource.PRICED, None),
    ({"tool_usage": "odd", "output": {}}, 2_000_000, CostSource.PRICED, None),
]


@pytest.mark.parametrize(("answer", "nanousd", "source", "detail"), TOOLS)
def test_hosted_tools(
    house: House, answer: dict[str, Any], nanousd: int, source: CostSource, detail: str | None
) -> None:
    record = billed(house, **answer)
    assert (record.cost_nanousd, record.cost_source, record.cost_detail) == (nanousd, source, detail)


def test_searches_that_openrouter_counts_within_the_usage(house: House) -> None:
    record = billed(house, usage=usage(1000, 100) | {"server_tool_use_details": {"web_search_requests": 2}})
    assert (record.cost_nanousd, record.cost_source) == (22_000_000, CostSource.PRICED)


def test_what_upstream_says_it_charged_needs_no_price(house: House) -> None:
    record = billed(house, usage=usage(1000, 100, cost=0.5), service_tier="scale")
    assert (record.cost_source, record.cost_detail) == (CostSource.REPORTED, None)


def test_a_large_answer_is_not_looked_through_for_tools(house: House) -> None:
    output = [{"type": "message", "content": "x" * 300_000}]
    record = billed(house, output=output, service_tier="flex")
    assert (record.cost_nanousd, record.cost_source) == (1_000_000, CostSource.ESTIMATED)
    assert "too large" in (record.cost_detail or "")
    told = billed(house, output=output, tool_usage={"web_search": {"num_requests": 1}})
    assert (told.cost_nanousd, told.cost_source) == (12_000_000, CostSource.PRICED)


def test_sound_has_no_price_here(house: House) -> None:
    record = billed(house, usage=usage(1000, 100) | {"output_tokens_details": {"audio_tokens": 7}})
    assert (record.cost_source, record.cost_detail) == (CostSource.ESTIMATED, "the price of audio tokens")


def test_a_served_model_without_a_price_is_priced_as_the_one_asked_for(house: House) -> None:
    house.prices["m-asked"] = house.prices.pop("m-served")
    record = billed(house)
    assert (record.cost_nanousd, record.cost_source) == (2_000_000, CostSource.ESTIMATED)
    assert record.cost_detail == "no price is known for m-served: priced as m-asked"
    house.prices.clear()
    record = billed(house)
    assert (record.cost_nanousd, record.cost_source) == (None, None)
    assert record.cost_detail == "no price is known for m-served"


def test_the_price_of_the_tier_is_kept(house: House) -> None:
    record = billed(house, service_tier="flex")
    assert record.price == dict(PRICE.service_tiers)["flex"].as_json()


def test_the_book_has_tiers_and_fees() -> None:
    price = BundledPrices(provider="openai").price("gpt-5.1")
    assert price is not None
    assert price.web_search == 10_000_000
    tiers = dict(price.service_tiers)
    assert (tiers["flex"].input, tiers["priority"].input, price.input) == (625_000_000, 2_500_000_000, 1_250_000_000)
    assert tiers["flex"].web_search == price.web_search


def test_prices_survive_being_written_down() -> None:
    assert price_from_config(as_mapping(PRICE)) == PRICE
    with pytest.raises(ValueError, match="service tier flex: input is missing"):
        price_from_config({**TABLE, "service_tiers": {"flex": {"output": 1}}})
    with pytest.raises(ValueError, match="not a table"):
        price_from_config({**TABLE, "service_tiers": {"flex": 1}})


# -- D2: estimates that can be ------------------------------------------------------------------------------------


class Small(dict[str, Price]):
    """A price book with one window."""

    def price(self, model: str) -> Price | None:
        return self.get(model)

    def context_tokens(self, model: str) -> int | None:
        return 4000


def test_an_estimate_is_bounded_by_the_context_and_by_what_the_call_allows() -> None:
    house = House(at_once=True)
    object.__setattr__(house.services, "prices", Small())
    body = b'{"model":"m-asked","stream":true,"max_output_tokens":50,"input":"%b"}' % (b"x" * 60_000)
    visit = house.visit(body)
    visit.upstream.stream_head()
    delta = event("response.output_text.delta", delta="word " * 2000)
    visit.upstream.data(event("response.created", response={"id": "resp_1"}), delta)
    visit.upstream.end()
    record = visit.record
    assert (record.outcome, record.usage_source) == (Outcome.TRUNCATED, UsageSource.ESTIMATED)
    assert (record.input_tokens, record.output_tokens) == (4000, 50)


@pytest.mark.parametrize("asked", [JSON_CALL, b'{"model":"m-asked","stream":true}'])
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("body", [b"", b"<!doctype html><html>No service</html>", b"upstream connect error"])
async def test_what_is_no_answer_of_the_api_is_no_usage(asked: bytes, limited: bool, body: bytes) -> None:
    house = House(at_once=True)
    house.prices["m-asked"] = PRICE
    if limited:
        await house.agree(limits=Limits(budgets=(Budget(Unit.USD, Period.DAY, 10**9),)))
    visit = house.visit(asked)
    visit.upstream.head(200, (b"content-type", b"text/html"))
    if body:
        visit.upstream.data(body)
    visit.upstream.end()
    record = visit.record
    assert (record.usage_source, record.input_tokens, record.cost_nanousd) == (UsageSource.NONE, None, None)
    if limited:
        (holder,) = house.directory.clients.holders("alice")
        (budget,) = (await house.limiter.reading(holder, house.time.us)).budgets
        assert (budget.spent, budget.reserved) == (0, 0)


def test_what_is_told_afterwards_is_priced_in_the_same_way(house: House) -> None:
    record = Record("req_1", 0, "alice", "k", "openai", "/responses", model_requested="m-served")
    entry = UpstreamUsage(Usage(1000, output_tokens=100), "m-served", Extras(service_tier="flex", web_searches=1))
    assert entry.usage is not None
    settle_by_upstream(record, entry.usage, entry, house.prices)
    assert (record.usage_source, record.cost_source) == (UsageSource.SETTLED, CostSource.PRICED)
    assert record.cost_nanousd == 11_000_000
