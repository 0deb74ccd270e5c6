"""Usage: every upstream's shape is read, what is unreadable is unknown, zero stays zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answer.usage import MAX_TOKENS, Usage, read_usage

OPENAI = {
    "input_tokens": 1523,
    "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 256},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 1610,
}
OPENROUTER = {
    "input_tokens": 2310,
    "input_tokens_details": {"cached_tokens": 2048, "cache_write_tokens": 0},
    "output_tokens": 141,
    "output_tokens_details": {"reasoning_tokens": 96},
    "total_tokens": 2451,
    "cost": 0.00123456,
    "is_byok": False,
    "cost_details": {"upstream_inference_cost": None},
}
ZERO = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
    "cost": 0,
}
VLLM = {
    "input_tokens": 33,
    "input_tokens_details": {"cached_tokens": 16, "input_tokens_per_turn": [33], "cached_tokens_per_turn": [16]},
    "output_tokens": 120,
    "output_tokens_details": {"reasoning_tokens": 111, "tool_output_tokens": 0},
    "total_tokens": 153,
}
CHAT = {
    "prompt_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens": 5,
    "completion_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 14,
}


@pytest.mark.parametrize(
    ("value", "usage"),
    [
        pytest.param(OPENAI, Usage(1523, 1024, 256, 87, 64, 1610), id="openai"),
        pytest.param(OPENROUTER, Usage(2310, 2048, 0, 141, 96, 2451, 1_234_560), id="openrouter"),
        pytest.param(ZERO, Usage(0, 0, None, 0, 0, 0, 0), id="zero is true"),
        pytest.param(VLLM, Usage(33, 16, None, 120, 111, 153), id="vllm"),
        pytest.param(CHAT, Usage(9, 4, None, 5, 2, 14), id="chat completions"),
        pytest.param(
            {"input_tokens": 12, "output_tokens": 45, "total_tokens": 57},
            Usage(12, None, None, 45, None, 57),
            id="three numbers",
        ),
        pytest.param(
            {**OPENAI, "input_tokens_details": None, "output_tokens_details": None},
            Usage(1523, None, None, 87, None, 1610),
            id="null details",
        ),
        pytest.param(
            {**OPENAI, "input_tokens_details": [1], "output_tokens_details": "many"},
            Usage(1523, None, None, 87, None, 1610),
            id="details of a wrong type",
        ),
        pytest.param(
            {"input_tokens": 5.0, "output_tokens": 2.5, "total_tokens": 7e0}, Usage(5, total_tokens=7), id="floats"
        ),
        pytest.param({"output_tokens": 7}, Usage(output_tokens=7), id="one number"),
        pytest.param({"input_tokens": 3, "output_tokens": 4}, Usage(3, output_tokens=4), id="no total is made up"),
        pytest.param({"cost": "0.0004"}, Usage(reported_cost_nanousd=400_000), id="cost alone"),
        pytest.param({**OPENAI, "cost": None}, Usage(1523, 1024, 256, 87, 64, 1610), id="null cost"),
        pytest.param({"cost_in_usd_ticks": 318_319_000}, Usage(reported_cost_nanousd=31_831_900), id="xAI's ticks"),
        pytest.param({"cost": 0.5, "cost_in_usd_ticks": 1}, Usage(reported_cost_nanousd=500_000_000), id="dollars"),
        pytest.param(
            {"cost": {"currency": "USD", "tool_calls_cost": 0.0025, "total_cost": 0.004805}},
            Usage(reported_cost_nanousd=4_805_000),
            id="Perplexity's bill",
        ),
        pytest.param({"input_tokens": 1, "cost": {"currency": "EUR", "total_cost": 1}}, Usage(1), id="other money"),
        pytest.param(
            {"cost": 0.95, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}},
            Usage(reported_cost_nanousd=19_950_000_000),
            id="an own provider key: the fee and the provider's bill",
        ),
        pytest.param(
            {"cost": 0.95, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.95}},
            Usage(reported_cost_nanousd=950_000_000),
            id="OpenRouter's key: the bill is in the cost",
        ),
        pytest.param({"input_tokens": 1, "cost": 0, "is_byok": True}, Usage(1), id="an own key, and no bill told"),
        pytest.param({"input_tokens": None, "prompt_tokens": 8}, Usage(8), id="chat name where the own one is null"),
        pytest.param({"input_tokens": 0, "prompt_tokens": 8}, Usage(0), id="own name first, also when zero"),
    ],
)
def test_shapes(value: object, usage: Usage) -> None:
    assert read_usage(value) == usage


@pytest.mark.parametrize(
    "count", [-1, MAX_TOKENS + 1, 1e300, True, False, float("nan"), float("inf"), "7", None, [7], {}]
)
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "total_tokens", "prompt_tokens"])
def test_what_is_no_count_is_unknown(name: str, count: object) -> None:
    assert read_usage({name: count}) is None
    assert read_usage({"output_tokens": 1, "input_tokens_details": {"cached_tokens": count}}) == Usage(output_tokens=1)


@pytest.mark.parametrize("count", [0, 1, MAX_TOKENS, 0.0, -0.0, float(2**52)])
def test_counts(count: float) -> None:
    usage = read_usage({"input_tokens": count})
    assert usage is not None
    assert usage.input_tokens == count
    assert type(usage.input_tokens) is int


@pytest.mark.parametrize(
    "value", [None, [], [OPENAI], "usage", 7, True, {}, {"tokens": 5}, {"input_tokens_details": {}}]
)
def test_nothing_usable_is_none(value: object) -> None:
    assert read_usage(value) is None


NAMES = [*OPENROUTER, *CHAT, "cached_tokens", "cache_write_tokens", "reasoning_tokens"]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner), max_leaves=12
)


@given(junk)
def test_never_raises_and_never_lies(value: object) -> None:
    usage = read_usage(value)
    if usage is None:
        return
    counts = [getattr(usage, name) for name in Usage._fields if name.endswith("_tokens")]
    assert len(counts) == 6
    assert all(count is None or (type(count) is int and 0 <= count <= MAX_TOKENS) for count in counts)
    assert usage != Usage()
