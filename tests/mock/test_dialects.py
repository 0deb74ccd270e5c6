"""Each dialect, read by the openai SDK over a socket, and what tells it from the others."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from app.mock.dialects import DIALECTS
from tests.mock.running import RunningMock

BODY: dict[str, Any] = {"model": "openai/gpt-5.5", "input": "Say something about loads.", "stream": True}
TERMINALS = ("response.completed", "response.incomplete", "response.failed", "response.done")


@pytest.fixture
def client(mock: RunningMock) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{mock.url}/v1", api_key=mock.key, max_retries=0) as made:
        yield made


@pytest.fixture
async def async_client(mock: RunningMock) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{mock.url}/api/v1", api_key=mock.key, max_retries=0) as made:
        yield made


def stream_of(mock: RunningMock, dialect: str, **fields: object) -> list[str]:
    """The blocks of a raw stream."""
    answer = mock.client.post("/responses", json=BODY | fields, headers={"x-mock-dialect": dialect})
    assert answer.status_code == 200
    return answer.text.removesuffix("\n\n").split("\n\n")


def events_of(blocks: list[str]) -> list[dict[str, Any]]:
    data = [line.removeprefix("data: ") for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_ends_with_what_the_books_say(mock: RunningMock, client: openai.OpenAI, dialect: str) -> None:
    with client.responses.create(model=f"mock/{dialect}", input="Hello", stream=True) as stream:
        events = list(stream)
    last: Any = events[-1]
    assert last.type in TERMINALS
    usage = last.response.to_dict()["usage"] if hasattr(last.response, "to_dict") else last.response["usage"]
    call = mock.last()
    assert (call["dialect"], call["status"], call["finished"], call["reported"]) == (dialect, "completed", True, True)
    told = {name: usage[name] for name in ("input_tokens", "output_tokens", "total_tokens")}
    assert told == {name: call[name] for name in told}
    details = (usage.get("input_tokens_details") or {}), (usage.get("output_tokens_details") or {})
    assert details[0].get("cached_tokens", 0) == call["cached_tokens"]
    assert details[0].get("cache_write_tokens", 0) == call["cache_write_tokens"]
    assert details[1].get("reasoning_tokens", 0) == call["reasoning_tokens"]
    if "cost" in usage:
        assert round(usage["cost"] * 1e9) == call["cost_nanousd"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_deltas_are_the_text(async_client: openai.AsyncOpenAI, dialect: str) -> None:
    stream = await async_client.responses.create(model=f"mock/{dialect}", input="Hello", stream=True)
    said, done = "", ""
    async for event in stream:
        said += getattr(event, "delta", None) or ""
        if event.type == "response.output_item.done":
            done += event.item.to_dict()["content"][0]["text"]  # type: ignore[index]
    assert said == done
    assert said


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "openrouter-legacy"])
async def test_json_is_the_terminal_event(mock: RunningMock, async_client: openai.AsyncOpenAI, dialect: str) -> None:
    made = await async_client.responses.create(model=f"mock/{dialect}", input="Hello")
    assert made.status == "completed"
    assert made.output_text
    assert made.usage is not None
    assert made.usage.total_tokens == mock.last()["total_tokens"]


def test_the_stream_helper_of_the_sdk(client: openai.OpenAI) -> None:
    with client.responses.stream(model="mock/openai/gpt-5.5", input="Count from 1 to 5.") as stream:
        final = stream.get_final_response()
    assert final.output_text == "1, 2, 3, 4, 5"
    assert final.model == "gpt-5.5-2026-04-23"
    assert final.output[0].type == "reasoning"


@pytest.mark.parametrize("dialect", ["openrouter", "openrouter-named", "openai", "openresponses"])
def test_events_fit_the_schema(mock: RunningMock, dialect: str) -> None:
    tools = [{"type": "function", "name": "get_load", "parameters": {"type": "object", "properties": {}}}]
    reasoning = {"effort": "low", "summary": "auto"}
    talk = events_of(stream_of(mock, dialect, reasoning=reasoning, max_output_tokens=200))
    calls = events_of(stream_of(mock, dialect, tools=tools, instructions="Be brief.", metadata={"team": "alpha"}))
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for events in (talk, calls):
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        for event in events:
            assert adapter.validate_python(event).type == event["type"]
    assert {"response.reasoning_summary_text.delta", "response.output_text.delta"} <= {event["type"] for event in talk}
    assert "response.function_call_arguments.delta" in {event["type"] for event in calls}
    for event in (calls[0], calls[1], calls[-1]):
        assert event["response"]["instructions"] == "Be brief."
        assert event["response"]["metadata"] == {"team": "alpha"}
        assert event["response"]["tools"][0]["name"] == "get_load"


def test_event_lines_and_the_last_words(mock: RunningMock) -> None:
    for name, dialect in DIALECTS.items():
        blocks = stream_of(mock, name)
        comments = [block for block in blocks if block.startswith(":")]
        events = [block for block in blocks if block.startswith(("event: ", "data: {"))]
        assert all(block.startswith("event: ") == dialect.named_events for block in events), name
        assert (blocks[-1] == "data: [DONE]") == dialect.sentinel, name
        assert comments == ([f": {dialect.comment}"] if dialect.comment else []), name
        if dialect.named_events:
            assert all(f'"type":"{block.split()[1]}"' in block for block in events), name


def test_what_is_peculiar(mock: RunningMock) -> None:
    shown = {name: events_of(stream_of(mock, name)) for name in DIALECTS}
    last = {name: events[-1]["response"] for name, events in shown.items()}
    assert shown["openrouter-legacy"][-1]["type"] == "response.done"
    assert "response.content_part.delta" in {event["type"] for event in shown["openrouter-legacy"]}
    assert last["openrouter"]["id"].startswith("gen-")
    assert last["openrouter"]["usage"]["is_byok"] is False
    assert last["openai"]["model"] == "gpt-5.5-2026-04-23"
    assert any("obfuscation" in event for event in shown["openai"])
    assert last["azure"]["content_filters"][0]["blocked"] is False
    assert last["vllm"]["text"] is None
    assert last["vllm"]["usage"]["output_tokens_details"]["tool_output_tokens"] == 0
    assert not any("sequence_number" in event for event in shown["llamacpp"])
    assert set(last["llamacpp"]["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
    assert list(last["ollama"]) == sorted(last["ollama"])
    assert "input_tokens_details" not in last["lmstudio"]["usage"]
    padded = stream_of(mock, "openai", stream_options={"include_obfuscation": False})
    assert not any("obfuscation" in event for event in events_of(padded))


def test_headers(mock: RunningMock) -> None:
    for name, header in [("openrouter", "x-generation-id"), ("openai", "x-request-id"), ("azure", "apim-request-id")]:
        answer = mock.client.post("/v1/responses", json=BODY, headers={"x-mock-dialect": name})
        assert answer.headers[header]
        assert "cache-control" not in answer.headers
        assert answer.headers["content-type"].startswith("text/event-stream")
    generation = mock.client.post("/v1/responses", json=BODY).headers["x-generation-id"]
    assert generation == mock.last()["generation_id"]


def test_prompts_are_cached_and_cheaper(mock: RunningMock, client: openai.OpenAI) -> None:
    long = "We weigh trucks. " * 100
    first = client.responses.create(model="mock/openai/gpt-4o-mini", input=long, max_output_tokens=5)
    again = client.responses.create(model="mock/openai/gpt-4o-mini", input=long, max_output_tokens=5)
    assert first.usage is not None
    assert again.usage is not None
    assert (first.usage.input_tokens_details.cached_tokens, first.status) == (0, "incomplete")
    assert again.usage.input_tokens_details.cached_tokens == 384
    one, two = mock.calls()
    assert one["cost_nanousd"] > two["cost_nanousd"] > 0


def test_a_json_schema_is_obeyed(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form: Any = {"format": {"type": "json_schema", "name": "place", "schema": schema}}
    made: Response = client.responses.create(model="mock/openai", input="A load for New York", text=form)
    assert json.loads(made.output_text) == {"city": "New York"}
