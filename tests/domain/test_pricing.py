"""Pricing: no token is charged twice, money is rounded once, and a price survives being written down."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answer.usage import Usage
from app.domain.money.price_table import price_from_config
from app.domain.money.pricing import Buckets, Price, buckets, cost

GPT = Price(input=250_000_000, cached_input=25_000_000, output=2_000_000_000)
TIERED = Price(
    input=100,
    output=1000,
    per_request=7,
    tiers=((200_000, Price(input=200, output=1500, per_request=7)), (500_000, Price(input=400, output=2000))),
)

tokens = st.integers(0, 2**53 - 1)
parts = st.none() | tokens
rates = st.integers(0, 10**15)
flat_prices = st.builds(
    Price,
    input=rates,
    output=rates,
    cached_input=st.none() | rates,
    cache_write=st.none() | rates,
    per_request=rates,
    source=st.text(max_size=8),
)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    base = draw(flat_prices)
    thresholds = sorted(draw(st.sets(st.integers(0, 10**7), max_size=3)))
    tiers = tuple((threshold, replace(draw(flat_prices), source=base.source)) for threshold in thresholds)
    return replace(base, tiers=tiers)


@given(tokens, tokens, parts, parts, parts)
def test_buckets_are_disjoint_and_sum_to_the_totals(
    into: int, out: int, cached: int | None, written: int | None, reasoning: int | None
) -> None:
    found = buckets(into, out, Usage(into, cached, written, out, reasoning))
    assert all(count >= 0 for count in found)
    assert found.uncached_input + found.cached_input + found.cache_write == into
    assert found.visible_output + found.reasoning == out


def test_honest_parts_are_taken_as_they_are() -> None:
    assert buckets(1523, 87, Usage(1523, 1024, 256, 87, 64, 1610)) == Buckets(243, 1024, 256, 23, 64)


def test_lying_parts_are_cut() -> None:
    assert buckets(100, 10, Usage(100, 150, 20, 10, 11)) == Buckets(0, 100, 0, 0, 10)
    assert buckets(100, 10, Usage(100, 70, 50, 10, 0)) == Buckets(0, 70, 30, 10, 0)


@pytest.mark.parametrize(
    ("usage", "price", "nanousd"),
    [
        pytest.param(Usage(1_000_000, output_tokens=0), GPT, 250_000_000, id="a million tokens cost the rate"),
        pytest.param(Usage(0, 0, 0, 0, 0, 0), GPT, 0, id="nothing"),
        pytest.param(Usage(2310, 2048, 0, 141, 96), GPT, 65_500 + 51_200 + 282_000, id="cached counted once"),
        pytest.param(Usage(10, 4, 3, 0), Price(input=10**6, output=0), 10, id="no cached price: the input price"),
        pytest.param(
            Usage(10, 4, 3, 0),
            Price(input=10**6, cached_input=0, cache_write=2 * 10**6, output=0),
            9,
            id="written dearer",
        ),
        pytest.param(Usage(1, output_tokens=0), Price(input=500_000, output=0), 0, id="half to even, down"),
        pytest.param(Usage(3, output_tokens=0), Price(input=500_000, output=0), 2, id="half to even, up"),
        pytest.param(
            Usage(1, output_tokens=1), Price(input=400_000, output=400_000), 1, id="rounded once, not bucket by bucket"
        ),
        pytest.param(Usage(0, output_tokens=0), Price(input=1, output=1, per_request=12), 12, id="per request"),
        pytest.param(Usage(200_000, output_tokens=0), TIERED, 7 + 20, id="at the threshold"),
        pytest.param(Usage(200_001, output_tokens=10**6), TIERED, 40 + 1500 + 7, id="above the threshold"),
        pytest.param(Usage(10**6, output_tokens=0), TIERED, 400, id="highest tier, its own price per request"),
        pytest.param(Usage(None, output_tokens=5), GPT, None, id="unknown input"),
        pytest.param(Usage(5), GPT, None, id="unknown output"),
    ],
)
def test_costs(usage: Usage, price: Price, nanousd: int | None) -> None:
    assert cost(usage, price) == nanousd


@given(st.builds(Usage, tokens, parts, parts, tokens, parts), flat_prices)
def test_cost_is_the_exact_sum_rounded_half_even(usage: Usage, price: Price) -> None:
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    found = buckets(usage.input_tokens, usage.output_tokens, usage)
    exact = Fraction(found.uncached_input * price.input)
    exact += found.cached_input * (price.cached_input if price.cached_input is not None else price.input)
    exact += found.cache_write * (price.cache_write if price.cache_write is not None else price.input)
    exact += usage.output_tokens * price.output
    assert cost(usage, price) == round(exact / 10**6) + price.per_request  # round() of a Fraction is half even


@given(st.builds(Usage, tokens, parts, parts, tokens, parts), rates, rates)
def test_one_rate_for_all_input_makes_the_parts_irrelevant(usage: Usage, into: int, out: int) -> None:
    whole = Usage(usage.input_tokens, output_tokens=usage.output_tokens)
    assert cost(usage, Price(input=into, output=out)) == cost(whole, Price(input=into, output=out))


@given(prices())
def test_a_price_is_read_back_from_its_json(price: Price) -> None:
    mapping = json.loads(price.as_json())
    source = mapping.pop("source")
    assert price_from_config(mapping, source) == price


def test_json_is_for_people_too() -> None:
    assert GPT.as_json() == '{"input":"0.25","cached_input":"0.025","output":"2","source":"config"}'


@pytest.mark.parametrize("name", ["input", "output", "cached_input", "cache_write", "per_request"])
def test_no_amounts_below_zero(name: str) -> None:
    with pytest.raises(ValueError, match="below zero"):
        replace(GPT, **{name: -1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tiers", [((5, GPT), (5, GPT)), ((6, GPT), (5, GPT)), ((5, Price(input=1, output=1, tiers=((9, GPT),))),)]
)
def test_tiers_rise_and_are_flat(tiers: tuple[tuple[int, Price], ...]) -> None:
    with pytest.raises(ValueError, match="rise"):
        Price(input=1, output=1, tiers=tiers)


def test_config() -> None:
    price = price_from_config(
        {
            "input": "0.25",
            "output": 2,
            "cached_input": 0.025,
            "cache_write": "0.3125",
            "per_request": "0.005",
            "tiers": [{"above": 200_000, "input": "0.5", "output": "4"}],
        }
    )
    assert price == Price(
        input=250_000_000,
        output=2_000_000_000,
        cached_input=25_000_000,
        cache_write=312_500_000,
        per_request=5_000_000,
        tiers=((200_000, Price(input=500_000_000, output=4_000_000_000)),),
    )


@pytest.mark.parametrize(
    ("mapping", "messages"),
    [
        ({}, ["input is missing", "output is missing"]),
        ({"input": "abc", "output": True}, ["input = 'abc' is not an amount", "output = True is not an amount"]),
        ({"input": 1, "output": -1}, ["output = -1 is not an amount"]),
        ({"input": 1, "output": 1, "reasoning": 3}, ["reasoning is not part of a price", "cached_input"]),
        ({"input": 1, "output": 1, "source": "me"}, ["source is not part of a price"]),
        ({"input": 1, "output": 1, "tiers": 5}, ["tiers is not a list"]),
        ({"input": 1, "output": 1, "tiers": [5]}, ["tier 1: is not a table"]),
        ({"input": 1, "output": 1, "tiers": [{"above": True}]}, ["tier 1: above is not", "tier 1: input is missing"]),
        (
            {"input": 1, "output": 1, "tiers": [{"above": 5, "input": 1, "output": 1}] * 2},
            ["tier 2: above does not rise"],
        ),
        (
            {"input": 1, "output": 1, "tiers": [{"above": 5, "input": 1, "output": 1, "tiers": []}]},
            ["tier 1: tiers is"],
        ),
    ],
)
def test_config_faults_are_named_together(mapping: dict[str, object], messages: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the texts are checked below)
        price_from_config(mapping)
    assert [message for message in messages if message not in str(caught.value)] == []
