"""The openai SDK for Python, as its users have it: answers, streams, typed errors, retries."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseCompletedEvent, ResponseTextDeltaEvent

from tests.conftest import GatewayStarter
from tests.e2e.program import Gateway
from tests.e2e.replay import Ending, ReplayUpstream, Script, document, stream
from tests.e2e.samples import wire

MODEL = "mock/openai/gpt-5.1"
SOON = ("retry-after-ms", "1")
RATE_LIMIT = json.dumps({"error": {"message": "Slow down.", "type": "requests", "code": "rate_limit"}}).encode()
OVERLOADED = json.dumps({"error": {"message": "Try later.", "type": "server_error", "code": None}}).encode()


@pytest.fixture
def client(mocked: Gateway) -> Iterator[openai.OpenAI]:
    """In front of the mock upstream."""
    with openai.OpenAI(base_url=f"{mocked.url}/api/v1", api_key=mocked.key, max_retries=0, timeout=20) as made:
        yield made


def replaying(gateway: Gateway, replay: ReplayUpstream, script: Script, **options: Any) -> openai.OpenAI:  # noqa: ANN401
    headers = replay.play(script)
    fixed: dict[str, Any] = {"max_retries": 0, "timeout": 20, "api_key": gateway.key}
    return openai.OpenAI(base_url=f"{gateway.url}/v1", default_headers=headers, **{**fixed, **options})


def test_an_answer_in_one_piece(mocked: Gateway, client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model=MODEL, input="in 3 words")
    response = raw.parse()
    assert raw.headers["x-request-id"]
    record = mocked.record(response.id, "response_id")
    assert len(response.output_text.split()) == 3
    assert response.usage is not None
    assert (record["input_tokens"], record["output_tokens"]) == (
        response.usage.input_tokens,
        response.usage.output_tokens,
    )
    assert (record["model_served"], record["outcome"]) == (response.model, "completed")


def test_a_stream_of_events(mocked: Gateway, client: openai.OpenAI) -> None:
    with client.responses.create(model=MODEL, input="Count from 1 to 5.", stream=True) as events:
        assert events.response.headers["x-request-id"]
        seen = list(events)
    last = seen[-1]
    assert isinstance(last, ResponseCompletedEvent)
    deltas = [event.delta for event in seen if isinstance(event, ResponseTextDeltaEvent)]
    assert "".join(deltas) == last.response.output_text
    assert last.response.usage is not None
    assert mocked.record(last.response.id, "response_id")["total_tokens"] == last.response.usage.total_tokens


def test_the_stream_helper(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Count from 1 to 5.") as events:
        kinds = {event.type for event in events}
        final = events.get_final_response()
    assert {"response.created", "response.output_text.delta", "response.completed"} <= kinds
    assert (final.status, final.output_text) == ("completed", "1, 2, 3, 4, 5")


async def test_the_asynchronous_client(mocked: Gateway) -> None:
    async with openai.AsyncOpenAI(base_url=f"{mocked.url}/v1", api_key=mocked.key, max_retries=0) as client:
        response = await client.responses.create(model=MODEL, input="in 3 words")
        assert response.status == "completed"
        events = await client.responses.create(model=MODEL, input="in 3 words", stream=True)
        assert [event.type async for event in events][-1] == "response.completed"
        async with client.responses.stream(model=MODEL, input="in 3 words") as helper:
            assert (await helper.get_final_response()).status == "completed"


def test_tools_and_reasoning_come_through(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}
    response = client.responses.create(
        model=MODEL, input="The weather?", tools=[tool], reasoning={"effort": "low"}, metadata={"team": "a"}
    )
    assert {"function_call", "reasoning"} <= {item.type for item in response.output}
    assert response.metadata == {"team": "a"}


def test_a_wrong_key_is_told_once(gateway: Gateway, replay: ReplayUpstream) -> None:
    script = document(b"{}")
    refused = gateway.metric("weighbridge_refusals_total", reason="authentication")
    with (
        replaying(gateway, replay, script, api_key="sk-or-v1-of-somebody", max_retries=5) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.responses.create(model="m", input="hi")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.request_id
    assert gateway.metric("weighbridge_refusals_total", reason="authentication") == refused + 1
    assert script.seen == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": 5, "input": "hi"}, openai.BadRequestError),
        ({"model": "m", "stream": "yes"}, openai.BadRequestError),
    ],
)
def test_a_bad_request_is_told_by_us(
    gateway: Gateway, replay: ReplayUpstream, body: dict[str, Any], error: type[openai.APIStatusError]
) -> None:
    script = document(b"{}")
    with replaying(gateway, replay, script) as client, pytest.raises(error) as caught:
        client.post("/responses", body=body, cast_to=object)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param in ("model", "stream")
    assert script.seen == []


def test_a_wrong_path_is_not_found(gateway: Gateway, replay: ReplayUpstream) -> None:
    with replaying(gateway, replay, document(b"{}")) as client, pytest.raises(openai.NotFoundError):
        client.post("/nothing/here", body={}, cast_to=object)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("400 Bad Request", openai.BadRequestError),
        ("402 Payment Required", openai.APIStatusError),
        ("404 Not Found", openai.NotFoundError),
        ("422 Unprocessable Entity", openai.UnprocessableEntityError),
        ("429 Too Many Requests", openai.RateLimitError),
        ("503 Service Unavailable", openai.InternalServerError),
    ],
)
def test_upstreams_errors_pass_as_they_are(
    gateway: Gateway, replay: ReplayUpstream, status: str, error: type[openai.APIStatusError]
) -> None:
    script = document(RATE_LIMIT, status, [("Retry-After", "7"), ("X-RateLimit-Remaining-Requests", "0")])
    with replaying(gateway, replay, script) as client, pytest.raises(error) as caught:
        client.responses.create(model="m", input="hi", stream=True)
    response = caught.value.response
    assert (response.status_code, response.content) == (int(status[:3]), RATE_LIMIT)
    assert (response.headers["retry-after"], response.headers["x-ratelimit-remaining-requests"]) == ("7", "0")
    assert gateway.record(response.headers["x-request-id"])["outcome"] == "upstream_error"
    assert len(script.seen) == 1


@pytest.mark.parametrize(("status", "body"), [("429 Too Many Requests", RATE_LIMIT), ("500 Oops", OVERLOADED)])
def test_the_sdk_retries_not_we(gateway: Gateway, replay: ReplayUpstream, status: str, body: bytes) -> None:
    script = document(body, status, [SOON])
    with replaying(gateway, replay, script, max_retries=2) as client, pytest.raises(openai.APIStatusError):
        client.responses.create(model="m", input="hi")
    assert [seen.value("x-stainless-retry-count") for seen in script.seen] == ["0", "1", "2"]


def test_the_servers_own_key_being_refused_is_no_fault_of_the_caller(gateway: Gateway, replay: ReplayUpstream) -> None:
    script = document(b'{"error":{"message":"Incorrect API key: sk-or-..."}}', "401 Unauthorized")
    with (
        replaying(gateway, replay, script, max_retries=3) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.responses.create(model="m", input="hi")
    assert caught.value.status_code == 502
    assert "sk-or" not in caught.value.response.text
    assert len(script.seen) == 1


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("streamed", [True, False])
def test_upstream_hangs_up_without_a_word(
    gateway: Gateway, replay: ReplayUpstream, ending: Ending, streamed: bool
) -> None:
    script = Script(b"", ending=ending)
    with replaying(gateway, replay, script) as client, pytest.raises(openai.InternalServerError) as caught:
        client.post("/responses", body={"model": "m", "stream": streamed}, cast_to=object)
    body = caught.value.response.json()["error"]
    assert (body["code"], body["metadata"]["error_type"]) == (502, "upstream_protocol_error")


def test_upstream_is_down(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL="http://127.0.0.1:9/v1")
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.responses.create(model="m", input="hi")
    assert caught.value.response.json()["error"]["metadata"]["error_type"] == "upstream_unreachable"
    record = gateway.record(caught.value.response.headers["x-request-id"])
    assert (record["outcome"], record["http_status"]) == ("upstream_error", 502)


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_cut_stream_is_an_error_for_the_sdk(gateway: Gateway, replay: ReplayUpstream, ending: Ending) -> None:
    script = stream(wire("47-cut-before-terminal"), ending=ending)
    with replaying(gateway, replay, script) as client:
        events = client.responses.create(model="m", input="hi", stream=True)
        assert next(events).type == "response.created"
        with pytest.raises(openai.APIConnectionError):  # ours broke off as upstream's did
            list(events)


def test_a_client_that_does_not_wait(gateway: Gateway, replay: ReplayUpstream) -> None:
    script = Script(b"", ending="hold")
    with replaying(gateway, replay, script, timeout=0.5) as client, pytest.raises(openai.APITimeoutError):
        client.responses.create(model="m", input="hi", stream=True)
    assert script.seen[0].gone.wait(20)
