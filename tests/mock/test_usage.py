from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.mock.call import MockCall
from app.mock.dialects import DIALECTS
from app.mock.faults import FaultSet
from app.mock.generation import Generator
from app.mock.models import MODELS, find_model
from app.mock.pace import Pace
from app.mock.usage import BLOCK_TOKENS, MockUsage, PromptCache, input_tokens


@given(st.text(max_size=3_000), st.text(max_size=600))
def test_a_prompt_seen_before_is_cached(prompt: str, more: str) -> None:
    cache = PromptCache()
    assert cache.weigh(prompt)[0] == 0
    blocks = len(prompt) // (4 * BLOCK_TOKENS) * BLOCK_TOKENS
    cached, written = cache.weigh(prompt + more)
    assert cached == blocks
    assert cached + written <= input_tokens(prompt + more)


def test_the_prompt_cache_is_bounded() -> None:
    cache = PromptCache(most=4)
    for number in range(10):
        cache.weigh(f"{number}" * 256 * 3)
    assert cache.weigh("0" * 256 * 3)[0] == 0
    assert cache.weigh("9" * 256)[0] == BLOCK_TOKENS


@given(st.integers(0, 500), st.integers(0, 500))
def test_what_is_made_is_owed(made: int, asked: int) -> None:
    whole = MockUsage(100, 20, 10, output_tokens=200, reasoning_tokens=50)
    assert whole.after(made).output_tokens == min(made, 200)
    assert whole.after(made).reasoning_tokens <= 50
    cheaper, dearer = sorted((made, asked))
    price = find_model("openai/gpt-5.5")
    assert price.cost_nanousd(whole.after(cheaper)) <= price.cost_nanousd(whole.after(dearer))


def test_cost_is_the_sum_of_its_parts() -> None:
    usage = MockUsage(input_tokens=1_000, cached_tokens=600, cache_write_tokens=100, output_tokens=10)
    price = find_model("anthropic/claude-sonnet-5")
    assert price.cost_nanousd(usage) == 300 * 3_000 + 600 * 300 + 100 * 3_750 + 10 * 15_000


def test_models_are_found_by_any_of_their_names() -> None:
    for model in MODELS:
        short = model.name.partition("/")[2]
        assert find_model(model.name) is find_model(short) is find_model(f"{short}-2026-04-23") is model


@given(
    st.sampled_from(sorted(DIALECTS)),
    st.integers(1, 300),
    st.sampled_from([None, "low", "high"]),
    st.booleans(),
    st.integers(),
)
def test_max_output_tokens_is_exact(dialect: str, limit: int, effort: str | None, tool: bool, seed: int) -> None:
    body: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Which weather?", "max_output_tokens": limit}
    if effort:
        body["reasoning"] = {"effort": effort, "summary": "auto"}
    if tool:
        body["tools"] = [{"type": "function", "name": "get_weather", "parameters": {}}]
    call = MockCall(body, DIALECTS[dialect])
    answer = Generator(Pace(0, 0), lambda: 0.0).generate(call, FaultSet(), Random(seed))
    assert answer.usage.output_tokens == sum(item.tokens for item in answer.items) <= limit
    if answer.status == "incomplete":
        assert answer.usage.output_tokens == limit
    else:
        assert all(item.complete for item in answer.items)
