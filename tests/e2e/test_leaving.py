"""Clients leave at every stage: upstream is closed at once, the record says so, nothing stays in flight."""

import time
from typing import Any

import pytest

from tests.e2e.client import ASK_STREAM, dial, encoded, raw_request, receive
from tests.e2e.program import Gateway, Mock, eventually
from tests.e2e.replay import SECONDS, ReplayUpstream, Script, Seen, stream
from tests.e2e.samples import wire

PROMPTLY = 3.0  # seconds; a second is promised, and this machine has other things to do


def closed_promptly(seen: Seen, left_at: float) -> None:
    assert seen.gone.wait(SECONDS), "upstream was never closed"
    assert seen.gone_at - left_at < PROMPTLY


def test_before_the_first_byte(gateway: Gateway, replay: ReplayUpstream) -> None:
    script, before = Script(b"", ending="hold"), gateway.records()
    with dial(gateway.url) as connection:
        connection.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(script)))
        seen = script.wait_for_call()
        left_at = time.monotonic()
    closed_promptly(seen, left_at)
    record = gateway.settled(before)
    assert (record["outcome"], record["http_status"], record["usage_source"]) == ("client_closed", None, "estimated")
    assert (record["bytes_in"], record["bytes_out"]) == (len(encoded(ASK_STREAM)), 0)
    gateway.idle()


def test_before_the_first_byte_of_the_mock(mocked: Gateway, mock_process: Mock) -> None:
    aborted, before = mock_process.get("/_mock/stats")["aborted"], mocked.records()
    with dial(mocked.url) as connection:
        connection.sendall(raw_request(mocked.key, ASK_STREAM, headers={"x-mock-fault": "slow-first-byte=90s"}))
        eventually(lambda: mocked.metric("weighbridge_streams_in_flight") == 1)
        eventually(lambda: [r for r in mocked.records() if r["outcome"] == "in_progress"], "the open call's record")
    assert mocked.settled(before)["outcome"] == "client_closed"
    eventually(lambda: mock_process.get("/_mock/stats")["aborted"] == aborted + 1, "the mock's notice")


@pytest.mark.parametrize("document", [False, True])
def test_in_mid_stream(gateway: Gateway, replay: ReplayUpstream, document: bool) -> None:
    body = wire("47-cut-before-terminal")
    script = stream(body, ending="hold")
    if document:
        script.head = script.head.replace(b"text/event-stream", b"application/json")
    with gateway.calling(ASK_STREAM, replay.play(script)) as call:
        call.read_until(body[-40:])
        left_at = time.monotonic()
        request_id = call.answer.request_id
    closed_promptly(script.seen[0], left_at)
    record = eventually(lambda: settled(gateway, request_id), "the record")
    assert (record["outcome"], record["http_status"], record["bytes_out"]) == ("client_closed", 200, len(body))
    gateway.idle()


def settled(gateway: Gateway, request_id: str) -> dict[str, Any]:
    record = gateway.record(request_id) if any(r["request_id"] == request_id for r in gateway.records()) else {}
    return record if record.get("outcome") != "in_progress" else {}


def test_while_uploading(gateway: Gateway, replay: ReplayUpstream) -> None:
    script, before = stream(b""), gateway.records()
    whole = raw_request(gateway.key, {"model": "m", "input": "x" * 500_000}, headers=replay.play(script))
    with dial(gateway.url) as connection:
        connection.sendall(whole[:250_000])
        eventually(lambda: gateway.metric("weighbridge_streams_in_flight") == 1)
    record = gateway.settled(before)
    assert (record["outcome"], record["http_status"], record["model_requested"]) == ("client_closed", None, None)
    assert script.seen == []
    gateway.idle()


def test_right_after_the_terminal_event(gateway: Gateway, replay: ReplayUpstream) -> None:
    """As Codex does: it reads response.completed and hangs up, whatever upstream still has to say."""
    body = wire("01-openai-completed")
    script = stream(body, ending="hold")
    before = gateway.records()
    with dial(gateway.url) as connection:
        connection.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(script)))
        receive(connection, b"1610")
    assert gateway.settled(before)["outcome"] == "completed"
    assert script.seen[0].gone.wait(SECONDS)
    (record,) = [r for r in gateway.records() if r not in before]
    assert (record["outcome"], record["total_tokens"]) == ("completed", 1610)
    gateway.idle()


def test_many_at_once(gateway: Gateway, replay: ReplayUpstream) -> None:
    before = gateway.records()
    scripts = [Script(b"", ending="hold") for _ in range(40)]
    connections = [dial(gateway.url) for _ in scripts]
    for connection, script in zip(connections, scripts, strict=True):
        connection.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(script)))
    calls = [script.wait_for_call() for script in scripts]
    for connection in connections:
        connection.close()
    assert all(seen.gone.wait(SECONDS) for seen in calls)
    gateway.idle()
    eventually(lambda: len(gateway.records()) == len(before) + len(scripts), "all records")
    assert [r["outcome"] for r in gateway.records() if r not in before] == ["client_closed"] * len(scripts)
    answer = gateway.post(ASK_STREAM, replay.play(stream(wire("01-openai-completed"))))
    assert answer.whole


def test_a_probe_for_websockets_is_sent_away_at_once(gateway: Gateway) -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for headers in (upgrade, {}):
        answer = gateway.get("/v1/responses", gateway.key, headers)
        assert (answer.status, answer.error_type) == (426, "upgrade_not_supported")


def test_a_client_that_reads_slowly_gets_everything(gateway: Gateway, replay: ReplayUpstream) -> None:
    """It begins to read when upstream can write no more: nothing between the two takes an answer of any size."""
    body = b"data: " + b"x" * 30_000_000 + b"\n\n" + wire("01-openai-completed")
    script = stream(body, range(0, len(body), 100_000))
    with gateway.calling(ASK_STREAM, replay.play(script)) as call:
        held = eventually(lambda: still(script), "a halt of upstream")
        answer = call.rest()
    assert held < len(body) / 2
    assert (answer.whole, answer.body == body) == (True, True)
    assert gateway.record(answer.request_id)["total_tokens"] == 1610


def still(script: Script) -> int:
    """How much upstream has sent, if that has not grown for a while."""
    script.wait_for_call()
    script.progress.clear()
    return 0 if script.progress.wait(0.3) else script.sent
