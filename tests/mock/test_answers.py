"""What the mock answers beside streams of text: the checks of the Open Responses suite, refusals, the account."""

import json
from typing import Any

import httpx2
import openai
import pytest

from app.mock.dialects import DIALECTS
from app.mock.models import MODELS
from tests.mock.running import RunningMock

_NEVER_NULL = """
id object created_at status model output tools tool_choice truncation parallel_tool_calls text top_p presence_penalty
frequency_penalty top_logprobs temperature store background service_tier
"""
_MAYBE_NULL = """
completed_at incomplete_details previous_response_id instructions error reasoning usage max_output_tokens max_tool_calls
metadata safety_identifier prompt_cache_key
"""
NEVER_NULL = _NEVER_NULL.split()
REQUIRED = [*NEVER_NULL, *_MAYBE_NULL.split()]
PIXEL = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Current weather",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}


def message(role: str, text: str, **fields: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text, **fields}


COMPLIANCE: dict[str, dict[str, Any]] = {
    "basic": {"input": [message("user", "Say hello in exactly 3 words.")]},
    "phase": {
        "input": [
            message("user", "Hi"),
            message("assistant", "Looking", phase="commentary"),
            message("assistant", "Hello", phase="final_answer"),
            message("user", "Again"),
        ]
    },
    "system": {"input": [message("system", "Be a pirate."), message("user", "Hello")]},
    "tools": {"input": [message("user", "What's the weather like in San Francisco?")], "tools": [WEATHER]},
    "image": {
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": PIXEL},
                ],
            }
        ]
    },
    "turns": {"input": [message("user", "I am Ann"), message("assistant", "Hi Ann"), message("user", "Who am I?")]},
    "string": {"input": "Hello"},
}


def check_resource(resource: dict[str, Any]) -> None:
    assert [name for name in REQUIRED if name not in resource] == []
    assert [name for name in NEVER_NULL if resource[name] is None] == []
    assert resource["object"] == "response"
    assert isinstance(resource["created_at"], int)


@pytest.mark.parametrize("dialect", ["openrouter", "openai", "openresponses"])
@pytest.mark.parametrize("case", COMPLIANCE)
def test_open_responses(mock: RunningMock, case: str, dialect: str) -> None:
    answer = mock.post(COMPLIANCE[case] | {"model": f"mock/{dialect}/gpt-4o-mini"})
    assert answer.status_code == 200
    resource = answer.json()
    check_resource(resource)
    assert (resource["status"], bool(resource["output"])) == ("completed", True)
    assert isinstance(resource["completed_at"], int)
    usage = resource["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert "cached_tokens" in usage["input_tokens_details"]
    assert "reasoning_tokens" in usage["output_tokens_details"]


@pytest.mark.parametrize("dialect", ["openrouter", "openai", "openresponses"])
def test_open_responses_streaming(mock: RunningMock, dialect: str) -> None:
    body = {"model": f"mock/{dialect}/gpt-4o-mini", "input": "Count from 1 to 5.", "stream": True}
    lines = [line for line in mock.post(body).text.split("\n") if line.startswith("data: {")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    for event in events:
        if "response" in event:
            check_resource(event["response"])
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "1, 2, 3, 4, 5"


def test_tool_calls(mock: RunningMock) -> None:
    body = COMPLIANCE["tools"] | {"model": "mock/openai"}
    (call,) = mock.post(body).json()["output"]
    assert (call["type"], call["name"]) == ("function_call", "get_weather")
    assert json.loads(call["arguments"]) == {"location": "San Francisco"}
    done = [*body["input"], call, {"type": "function_call_output", "call_id": call["call_id"], "output": "fog"}]
    assert mock.post(body | {"input": done}).json()["output"][0]["type"] == "message"
    assert mock.post(body | {"tool_choice": "none"}).json()["output"][0]["type"] == "message"
    assert mock.post(body | {"input": "Hi", "tool_choice": "required"}).json()["output"][0]["type"] == "function_call"
    two = [WEATHER, WEATHER | {"name": "weather_map"}]
    assert len(mock.post(body | {"tools": two}).json()["output"]) == 2
    assert len(mock.post(body | {"tools": two, "parallel_tool_calls": False}).json()["output"]) == 1


def test_compaction(mock: RunningMock) -> None:
    body = {"input": [message("user", "Plan the launch."), message("assistant", "Done.")], "prompt_cache_key": "a"}
    answer = mock.post(body | {"model": "mock/openai/gpt-4o-mini"}, path="/v1/responses/compact").json()
    assert answer["object"] == "response.compaction"
    assert [item["type"] for item in answer["output"]] == ["message", "compaction"]
    assert answer["usage"]["total_tokens"] == mock.last()["total_tokens"] > 0
    assert mock.post(body, path="/v1/responses/compact").status_code == 400
    assert len(mock.calls()) == 1


def test_counting_is_free_and_right(mock: RunningMock) -> None:
    body = {"model": "mock/openai", "input": "Weigh this, please.", "instructions": "Be exact."}
    counted = mock.post(body, path="/api/v1/responses/input_tokens").json()
    assert counted == {"object": "response.input_tokens", "input_tokens": counted["input_tokens"]}
    assert mock.calls() == []
    assert mock.post(body).json()["usage"]["input_tokens"] == counted["input_tokens"]


@pytest.mark.parametrize("prefix", ["", "/v1", "/api/v1"])
def test_paths_are_alike(mock: RunningMock, prefix: str) -> None:
    assert mock.post({"model": "mock/openai", "input": "hi"}, path=f"{prefix}/responses").status_code == 200
    assert mock.client.get(f"{prefix}/models").status_code == 200


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("borne", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic c2s="}])
def test_the_key_is_needed(mock: RunningMock, dialect: str, borne: dict[str, str]) -> None:
    headers = {"x-mock-dialect": dialect, **borne}
    with httpx2.Client(base_url=mock.url, headers=headers) as stranger:
        for answer in (stranger.post("/v1/responses", json={}), stranger.get("/models"), stranger.get("/responses/a")):
            assert answer.status_code == 401
            error = answer.json()["error"]
            assert error["code"] == (401 if dialect.startswith("openrouter") else "invalid_api_key")
            assert "wrong" not in answer.text


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"model": 3}', {}, 400),
        (b'{"model": "gpt", "input": 5}', {}, 400),
        (b"{}", {"x-mock-dialect": "openai"}, 400),
        (b"{}", {"x-mock-dialect": "klingon"}, 400),
        (b"{}", {"content-encoding": "gzip"}, 415),
        (b'{"store": true}', {}, 400),
        (b'{"previous_response_id": "resp_1"}', {}, 400),
        (b'{"model": "mock/openai", "previous_response_id": "resp_1"}', {}, 400),
        (b'{"model": "mock/openai", "background": true, "store": false}', {}, 400),
    ],
)
def test_refusals(mock: RunningMock, body: bytes, headers: dict[str, str], status: int) -> None:
    answer = mock.client.post("/v1/responses", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert mock.get("/_mock/stats")["refused"] == 1
    assert mock.calls() == []


def test_what_is_not_there_is_json_too(mock: RunningMock) -> None:
    assert mock.client.get("/nowhere").json()["error"]["message"] == "Not Found"
    assert mock.client.get("/v1/responses").status_code == 405
    with (
        openai.OpenAI(base_url=f"{mock.url}/v1", api_key=mock.key, max_retries=0) as client,
        pytest.raises(openai.NotFoundError),
    ):
        client.responses.retrieve("resp_nobody")


def test_models(mock: RunningMock) -> None:
    names = [model.name for model in MODELS]
    listed = mock.get("/api/v1/models")["data"]
    assert [model["id"] for model in listed] == names
    assert listed[0]["pricing"]["prompt"] == "0.00000125"
    codex = mock.get("/api/v1/models?client_version=0.169.0")
    assert [model["slug"] for model in codex["models"]] == names
    plain = mock.client.get("/v1/models", headers={"x-mock-dialect": "openai"}).json()
    assert (plain["object"], plain["data"][0]["id"]) == ("list", "gpt-5.5")


def test_key_and_credits_add_up(mock: RunningMock) -> None:
    for text in ("one", "two"):
        mock.post({"model": "openai/gpt-5.5", "input": text})
    spent = sum(call["cost_nanousd"] for call in mock.calls())
    key, account = mock.get("/key")["data"], mock.get("/credits")["data"]
    assert round(key["usage"] * 1e9) == round(account["total_usage"] * 1e9) == spent > 0
    assert key["usage_daily"] == key["usage"]
    assert (key["limit"], account["total_credits"]) == (None, 100.0)
