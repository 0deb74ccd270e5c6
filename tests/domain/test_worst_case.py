"""The worst case is never less than what a call within its assumptions comes to."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain.answer.usage import Usage
from app.domain.money.pricing import Price, cost
from app.domain.money.worst_case import MOST_OUTPUT_TOKENS, Assumptions, highest_cost, worst_case

ASSUMED = Assumptions(bytes_per_token=3, output_ceiling=1000)
PRICES = {"cheap": Price(input=1_000_000_000, output=2_000_000_000), "dear": Price(input=9_000_000_000, output=9)}
CONTEXTS = {"cheap": 50_000, "dear": 20_000}

RATES = st.integers(0, 10**11)
PLAIN = st.builds(
    Price, input=RATES, output=RATES, cached_input=st.none() | RATES, cache_write=st.none() | RATES, per_request=RATES
)


def judged(call: dict[str, Any], size: int = 300) -> tuple[int, int, int | None]:
    worst = worst_case(call, size, ASSUMED, PRICES.get, CONTEXTS.get)
    return worst.input_tokens, worst.output_tokens, worst.cost_nanousd


@given(PLAIN, PLAIN, st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_no_call_within_its_tokens_costs_more(
    price: Price, above: Price, input_tokens: int, output_tokens: int, data: st.DataObject
) -> None:
    tiered = Price(**{**_fields(price), "tiers": ((data.draw(st.integers(0, 10**6)), above),)})
    into, out = data.draw(st.integers(0, input_tokens)), data.draw(st.integers(0, output_tokens))
    cached = data.draw(st.integers(0, into))
    written = data.draw(st.integers(0, into - cached))
    usage = Usage(into, cached, written, out)
    assert (cost(usage, tiered) or 0) <= highest_cost(tiered, input_tokens, output_tokens)


def _fields(price: Price) -> dict[str, Any]:
    names = ("input", "output", "cached_input", "cache_write", "per_request")
    return {name: getattr(price, name) for name in names}


def test_a_call_says_its_output_or_has_the_ceiling() -> None:
    assert judged({"model": "cheap", "max_output_tokens": 5}) == (100, 5, 110_000)
    assert judged({"model": "cheap"}) == (100, 1000, 2_100_000)
    for odd in (None, -1, 0, 0.0, True, "9", float("nan")):  # some upstreams take 0 for no bound
        assert judged({"model": "cheap", "max_output_tokens": odd})[1] == 1000
    assert judged({"model": "cheap", "max_output_tokens": 7.0})[1] == 7
    for absurd in (10**9, 10**10, 2**53, 2**80, 1e30, 1e400):
        worst = worst_case({"max_output_tokens": absurd}, 300, ASSUMED, PRICES.get, CONTEXTS.get)
        assert worst.output_tokens == MOST_OUTPUT_TOKENS


def test_a_body_of_any_size_fits_into_the_context() -> None:
    assert judged({"model": "cheap", "max_output_tokens": 10**9}, size=10**9)[:2] == (50_000, 50_000)


def test_what_builds_on_something_upstream_keeps_may_fill_the_context() -> None:
    for key in ("previous_response_id", "conversation", "prompt"):
        assert judged({"model": "cheap", key: "x"})[0] == 50_000
        assert judged({"model": "cheap", key: None})[0] == 100
    said = {"role": "user", "content": "go on", "id": "msg_1"}
    for item in ({"type": "item_reference", "id": "rs_1"}, {"id": "rs_1"}, {"type": None, "id": "rs_1"}):
        assert judged({"model": "cheap", "input": [said, item]})[0] == 50_000
    for items in ("item_reference", [said], [7, {}], {"id": "rs_1"}, None):
        assert judged({"model": "cheap", "input": items})[0] == 100


def test_the_dearest_of_all_models_that_may_answer() -> None:
    call = {"model": "cheap", "models": ["dear"], "max_output_tokens": 10}
    assert judged(call)[2] == highest_cost(PRICES["dear"], 100, 10)


def test_one_unknown_price_makes_it_unknown() -> None:
    for call in ({"model": "x"}, {}, {"model": "cheap", "models": ["x"]}, {"models": [7]}):
        assert judged(call)[2] is None
