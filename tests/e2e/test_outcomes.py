"""Promise P2: every admitted call has one record, and it says what became of the call."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.client import ASK, ASK_STREAM, Answer, Body, dial, raw_request, receive
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, Script, document, head, stream
from tests.e2e.samples import wire

USAGE = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


def terminal(kind: str, status: str, usage: dict[str, int] | None) -> bytes:
    response = {"id": "resp_t", "object": "response", "status": status, "model": "gpt-5.1", "usage": usage}
    return b"data: " + json.dumps({"type": f"response.{kind}", "response": response}).encode() + b"\n\n"


def answered(gateway: Gateway, replay: ReplayUpstream, script: Script, body: Body) -> tuple[Answer, dict[str, Any]]:
    answer = gateway.post(body, replay.play(script))
    return answer, gateway.record(answer.request_id)


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        ("completed", "completed", "completed"),
        ("done", "completed", "completed"),
        ("incomplete", "incomplete", "incomplete"),
        ("failed", "failed", "failed"),
    ],
)
@pytest.mark.parametrize("usage", [USAGE, None])
def test_a_stream_by_its_terminal_event(
    gateway: Gateway, replay: ReplayUpstream, kind: str, status: str, outcome: str, usage: dict[str, int] | None
) -> None:
    _, record = answered(gateway, replay, stream(terminal(kind, status, usage)), ASK_STREAM)
    assert (record["outcome"], record["stream"], record["http_status"]) == (outcome, True, 200)
    assert record["total_tokens"] == (None if usage is None else 18)
    assert record["usage_source"] == ("none" if usage is None else "reported")
    assert (record["response_id"], record["model_served"]) == ("resp_t", "gpt-5.1")


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
def test_a_document_by_its_status(gateway: Gateway, replay: ReplayUpstream, status: str) -> None:
    body = {"id": "resp_d", "object": "response", "status": status, "model": "gpt-5.1", "usage": USAGE}
    script = document(json.dumps(body).encode(), headers=[("X-Generation-Id", "gen-77")])
    _, record = answered(gateway, replay, script, ASK)
    assert (record["outcome"], record["stream"], record["total_tokens"]) == (status, False, 18)
    assert (record["generation_id"], record["cost_source"]) == ("gen-77", "priced")
    assert record["time_to_first_byte_ms"] <= record["duration_ms"]


@pytest.mark.parametrize("cut", [0, 40, 3027])
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_upstream_cut(gateway: Gateway, replay: ReplayUpstream, cut: int, ending: Any) -> None:  # noqa: ANN401
    body = wire("47-cut-before-terminal")[:cut]
    answer, record = answered(gateway, replay, stream(body, ending=ending), ASK_STREAM)
    assert (answer.body, answer.whole) == (body, False)
    assert (record["outcome"], record["error_type"]) == ("truncated", "upstream_protocol_error")
    assert (record["usage_source"], record["input_tokens"]) == ("estimated", -(-record["bytes_in"] // 3))


def test_upstream_cut_after_the_terminal_event_is_no_loss(gateway: Gateway, replay: ReplayUpstream) -> None:
    body = terminal("completed", "completed", USAGE)
    answer, record = answered(gateway, replay, stream(body, ending="close"), ASK_STREAM)
    assert (answer.body, answer.whole) == (body, False)
    assert (record["outcome"], record["total_tokens"]) == ("completed", 18)


def test_a_document_cut(gateway: Gateway, replay: ReplayUpstream) -> None:
    opening = head([("Content-Type", "application/json"), ("Content-Length", "100")])
    answer, record = answered(gateway, replay, Script(opening, [b'{"usage":'], "close"), ASK)
    assert (answer.body, answer.whole, record["outcome"]) == (b'{"usage":', False, "truncated")


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "404 Not Found", "429 Too Many Requests", "500 Oops", "503 Busy"]
)
def test_upstreams_own_errors(gateway: Gateway, replay: ReplayUpstream, status: str) -> None:
    body = b'{"error":{"message":"No.","code":"because","type":"server_error"}}'
    answer, record = answered(gateway, replay, document(body, status), ASK)
    assert (answer.status, answer.body) == (int(status[:3]), body)
    assert (record["outcome"], record["http_status"], record["error_type"]) == (
        "upstream_error",
        int(status[:3]),
        "because",
    )


@pytest.mark.parametrize(
    ("script", "error_type"),
    [
        (lambda: document(b"<!doctype html><p>Bad gateway", "502 Bad Gateway"), "upstream_error"),
        (lambda: document(b"{}", "401 Unauthorized"), "upstream_auth"),
        (lambda: document(b"", "302 Found", [("Location", "http://127.0.0.1:9/")]), "upstream_redirect"),
        (lambda: Script(b"\x16\x03\x01 not HTTP\r\n\r\n", ending="close"), "upstream_protocol_error"),
        (lambda: Script(b"", ending="reset"), "upstream_protocol_error"),
    ],
)
def test_what_does_not_pass(
    gateway: Gateway, replay: ReplayUpstream, script: Callable[[], Script], error_type: str
) -> None:
    answer, record = answered(gateway, replay, script(), ASK_STREAM)
    assert (answer.status, answer.error_type) == (502, error_type)
    assert answer.value("content-type") == "application/json"
    assert answer.value("location") is None
    assert (record["outcome"], record["http_status"], record["error_type"]) == ("upstream_error", 502, error_type)


REFUSED: list[tuple[Body, dict[str, str], int, str]] = [
    (b"", {}, 400, "invalid_request"),
    (b"{not json", {}, 400, "invalid_request"),
    (b"[]", {}, 400, "invalid_request"),
    (b'{"model":"a","model":"b"}', {}, 400, "invalid_request"),
    (b'{"model":"\xff"}', {}, 400, "invalid_request"),
    (b"[" * 100_000, {}, 400, "invalid_request"),
    (ASK, {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    (ASK, {"content-encoding": "br"}, 415, "unsupported_media_type"),
    (b"\x1f\x8b nothing", {"content-encoding": "gzip"}, 400, "invalid_request"),
]


@pytest.mark.parametrize(("body", "headers", "status", "error_type"), REFUSED)
def test_refused_before_upstream(
    gateway: Gateway, replay: ReplayUpstream, body: Body, headers: dict[str, str], status: int, error_type: str
) -> None:
    script = document(b"{}")
    answer = gateway.post(body, {**replay.play(script), **headers})
    record = gateway.record(answer.request_id)
    assert (answer.status, answer.error_type) == (status, error_type)
    assert (record["outcome"], record["http_status"], record["error_type"]) == ("rejected", status, error_type)
    assert script.seen == []


def test_too_large_is_told_before_the_body_is_read(gateway: Gateway) -> None:
    before = gateway.records()
    with dial(gateway.url) as connection:
        connection.sendall(raw_request(gateway.key, b"").replace(b"Length: 0", b"Length: 999999999"))
        assert receive(connection, b"payload_too_large").startswith(b"HTTP/1.1 413 ")
    assert gateway.settled(before)["outcome"] == "rejected"


@pytest.mark.parametrize(
    "authorization", [None, "Basic c2s6", "Bearer sk-or-v1-x", "Bearer sk-wb-" + "A" * 48, "Bearer"]
)
def test_callers_who_are_nobody_have_no_record(
    gateway: Gateway, replay: ReplayUpstream, authorization: str | None
) -> None:
    script, before = document(b"{}"), gateway.records()
    headers = replay.play(script) | ({"authorization": authorization} if authorization else {"authorization": ""})
    answer = gateway.post(ASK, headers)
    assert (answer.status, answer.error_type) == (401, "authentication")
    assert (answer.value("x-should-retry"), script.seen) == ("false", [])
    assert gateway.records() == before


@pytest.mark.parametrize("path", ["/responses", "/v1/responses", "/api/v1/responses"])
def test_each_base_path_serves_the_same(gateway: Gateway, replay: ReplayUpstream, path: str) -> None:
    script = document(b"{}")
    answer = gateway.post(ASK, replay.play(script), path)
    assert (answer.status, gateway.record(answer.request_id)["path"]) == (200, path)
    assert script.seen[0].line == "POST /api/v1/responses HTTP/1.1"


def test_silence_is_a_timeout(start_gateway: Callable[..., Gateway], replay: ReplayUpstream) -> None:
    gateway = start_gateway(WEIGHBRIDGE_FIRST_BYTE_TIMEOUT="200ms", WEIGHBRIDGE_IDLE_TIMEOUT="200ms")
    answer, record = answered(gateway, replay, Script(b"", ending="hold"), ASK_STREAM)
    assert (answer.status, answer.error_type) == (504, "upstream_timeout")
    assert record["outcome"] == "timeout"
    answer, record = answered(gateway, replay, stream(b": thinking\n\n", ending="hold"), ASK_STREAM)
    assert (answer.body, answer.whole, record["outcome"]) == (b": thinking\n\n", False, "timeout")


def test_if_wished_what_nobody_tells_stays_unknown(
    start_gateway: Any,  # noqa: ANN401 - the fixture's factory
    replay: ReplayUpstream,
) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=replay.url, WEIGHBRIDGE_MISSING_USAGE="unknown")
    for name in ("47-cut-before-terminal", "48-cut-mid-event", "51-usage-missing"):
        _, record = answered(gateway, replay, stream(wire(name)), ASK_STREAM)
        assert record["usage_source"] == "none"
        assert (record["input_tokens"], record["output_tokens"], record["total_tokens"]) == (None, None, None)


def test_what_broke_off_is_estimated_and_what_ended_properly_is_not(gateway: Gateway, replay: ReplayUpstream) -> None:
    for name, source in (
        ("47-cut-before-terminal", "estimated"),
        ("48-cut-mid-event", "estimated"),
        ("51-usage-missing", "none"),
        ("25-openrouter-chat-style-error", "none"),
        ("06-openai-error-flat-only", "none"),
    ):
        _, record = answered(gateway, replay, stream(wire(name)), ASK_STREAM)
        assert (name, record["usage_source"]) == (name, source)
    for body in (b'{"id":"resp_1","status":"completed"}', b'{"id":"resp_1","status":"queued","usage":null}', b"{}"):
        _, record = answered(gateway, replay, document(body), ASK)
        assert (record["usage_source"], record["total_tokens"], record["cost_usd"]) == ("none", None, None)
