"""Which models a client may use: every way to have upstream use another one is judged."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import ModelNotAllowed
from app.domain.request.model_patterns import ModelPatterns, check_pattern

OURS = ModelPatterns(("openai/gpt-5*", "mock/?"))
FINE: dict[str, Any] = {"model": "openai/gpt-5.5"}

ALLOWED = [
    {},
    {"model": "OpenAI/GPT-5"},
    {"model": "openai/gpt-5:online"},
    {"model": "mock/a"},
    {"models": ["openai/gpt-5", "openai/gpt-5-mini"]},
    {"models": ["openai/gpt-5"], "route": "fallback"},
    {"models": None, "route": None, "preset": None, "plugins": None, "tools": None},
    {"provider": {"order": ["azure"]}},
    {"plugins": [{"id": "web", "max_results": 3}, {"id": "file-parser", "pdf": {"engine": "native"}}]},
    {"tools": [{"type": "function", "name": "f", "parameters": {"properties": {"model": {"enum": ["other/x"]}}}}]},
    {"tools": [{"type": "web_search"}, {"type": "openrouter:datetime"}, {"type": "mcp", "server_url": "https://x"}]},
    {"tools": [{"type": "openrouter:advisor", "parameters": {"model": "openai/gpt-5.5"}}]},
]
REFUSED = [
    {"model": None},
    {"model": "anthropic/claude-sonnet-5"},
    {"model": "openai/gpt-4o"},
    {"model": "x/openai/gpt-5"},
    {"model": " openai/gpt-5"},
    {"model": "mock/ab"},
    {"model": "openrouter/auto"},
    {"model": "@preset/mine"},
    {"model": "openai/gpt-5@preset/mine"},
    {"models": ["openai/gpt-5", "anthropic/claude-sonnet-5"]},
    {"models": "anthropic/claude-sonnet-5"},
    {"models": []},
    {"models": [None]},
    {"models": [["anthropic/x"]]},
    {"route": "fallback"},
    {"route": "fallback", "models": None},
    {"preset": "mine"},
    {"preset": {"slug": "mine"}},
    {"plugins": [{"id": "fusion"}]},
    {"plugins": [{"id": "auto-router", "allowed_models": ["*/*"]}]},
    {"plugins": [{"id": "web", "model": "anthropic/x"}]},
    {"plugins": {"id": "fusion"}},
    {"plugins": ["fusion"]},
    {"tools": [{"type": "image_generation"}]},
    {"tools": [{"type": "image_generation", "model": "gpt-image-1"}]},
    {"tools": [{"type": "openrouter:subagent"}]},
    {"tools": [{"type": "openrouter:fusion", "parameters": {"analysis_models": ["anthropic/x"]}}]},
    {"tools": [{"type": "openrouter:advisor", "parameters": {"deep": [{"model": "anthropic/x"}]}}]},
]


@pytest.mark.parametrize("call", ALLOWED, ids=str)
def test_what_is_allowed_passes(call: dict[str, Any]) -> None:
    OURS.judge({**FINE, **call})


@pytest.mark.parametrize("call", REFUSED, ids=str)
def test_no_way_round_the_list(call: dict[str, Any]) -> None:
    with pytest.raises(ModelNotAllowed) as refused:
        OURS.judge({**FINE, **call})
    assert refused.value.param in call


def test_a_call_without_a_model_is_refused() -> None:
    with pytest.raises(ModelNotAllowed, match="name one"):
        ModelPatterns(("*",)).judge({"input": "hi"})


def test_a_preset_is_allowed_by_its_own_name_only() -> None:
    assert not ModelPatterns(("*",)).allows("@preset/mine")
    presets = ModelPatterns(("@preset/mi*",))
    assert presets.allows("@preset/mine")
    assert not presets.allows("openai/gpt-5")
    presets.judge({"preset": "mine"})


def test_brackets_and_dots_mean_themselves() -> None:
    assert not ModelPatterns(("openai/gpt-5.5",)).allows("openai/gpt-515")
    assert not ModelPatterns(("[a-z]*",)).allows("anything")
    assert not ModelPatterns(()).allows("")


@given(st.text(min_size=1, max_size=30).filter(lambda name: "@preset" not in name.lower()))
def test_a_star_allows_every_name_and_a_name_itself(name: str) -> None:
    assert ModelPatterns(("*",)).allows(name)
    assert (
        ModelPatterns((f"{name.strip()}*",)).allows(name.strip())
        or name.strip().lower().lower() != name.strip().lower()
    )


@pytest.mark.parametrize("pattern", ["", " ", "a\n", "x" * 257])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="no pattern"):
        check_pattern(pattern)
