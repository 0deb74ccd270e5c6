"""Stopping: the first signal lets streams end, the second one does not; both leave with exit code 0 and full books."""

import contextlib
import json
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK_STREAM, Answer, dial, raw_request, receive
from tests.e2e.program import Gateway, eventually
from tests.e2e.replay import ReplayUpstream, Script, stream
from tests.e2e.samples import wire

STOPS = (signal.SIGTERM, signal.SIGINT)
MANY = 200
WHOLE = wire("01-openai-completed")
CUT = wire("47-cut-before-terminal")
LONG = "600s"


def ready(gateway: Gateway) -> Answer:
    return gateway.get("/readyz")


def draining(gateway: Gateway) -> bool:
    return ready(gateway).status == 503


def outcomes_after_restart(gateway: Gateway) -> Counter[str]:
    gateway.restart()
    return Counter(record["outcome"] for record in gateway.records())


@contextlib.contextmanager
def many_streams(gateway: Gateway, scripts: list[Script], replay: ReplayUpstream) -> Iterator[list[socket.socket]]:
    """One connection a script, each with the first event of its answer under way."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(dial(gateway.url)) for _ in scripts]
        for connection, script in zip(connections, scripts, strict=True):
            connection.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(script)))
        for connection in connections:
            assert b"response.created" in receive(connection, b"response.created")
        yield connections


@pytest.mark.parametrize("number", STOPS)
def test_idle(start_gateway: GatewayStarter, number: int) -> None:
    gateway = start_gateway()
    idle_connection = dial(gateway.url)  # one that a client keeps open does not keep us
    assert gateway.process.end(number) == 0
    idle_connection.close()
    assert not (gateway.state_dir / "server.json").exists()
    assert not (gateway.state_dir / "admin.sock").exists()
    assert "Traceback" not in gateway.process.err


@pytest.mark.parametrize("number", STOPS)
def test_a_running_stream_ends_properly_and_others_are_told(
    start_gateway: GatewayStarter, replay: ReplayUpstream, number: int
) -> None:
    gateway = start_gateway()
    script = stream(WHOLE, [1_000])
    script.gated = True
    with gateway.calling(ASK_STREAM, replay.play(script)) as call:
        script.go()
        call.read_until(WHOLE[:1_000])
        gateway.process.tell(number)
        eventually(lambda: draining(gateway), "the news that it stops")
        answer = ready(gateway)
        assert (answer.json["status"], answer.json["parts"]["serving"]["ok"]) == ("not ready", False)
        refused = gateway.post(ASK_STREAM)
        assert (refused.status, refused.error_type) == (503, "draining")
        assert refused.value("connection") == "close"
        assert int(refused.value("retry-after") or 0) > 0
        assert gateway.get("/healthz").status == 200
        script.go()
        script.go()
        ended = call.rest()
    assert (ended.body, ended.whole) == (WHOLE, True)
    assert gateway.process.wait() == 0
    assert outcomes_after_restart(gateway) == {"completed": 1, "rejected": 1}


def test_none_of_many_streams_is_cut_within_the_drain_time(
    start_gateway: GatewayStarter, replay: ReplayUpstream
) -> None:
    gateway = start_gateway(WEIGHBRIDGE_DRAIN_TIMEOUT=LONG)
    scripts = [stream(WHOLE, [1_000, 3_000 + number]) for number in range(MANY)]
    for script in scripts:
        script.gated = True
        script.go()
    with many_streams(gateway, scripts, replay) as connections:
        gateway.process.tell(signal.SIGTERM)
        eventually(lambda: draining(gateway), "the news that it stops")
        for script in scripts:
            for _ in range(3):
                script.go()
        answers = [receive(connection) for connection in connections]
    assert gateway.process.wait() == 0
    assert [answer for answer in answers if not answer.endswith(b"\r\n0\r\n\r\n")] == []
    assert outcomes_after_restart(gateway) == {"completed": MANY}


def test_when_the_drain_time_is_over_all_are_ended_and_recorded(
    start_gateway: GatewayStarter, replay: ReplayUpstream
) -> None:
    gateway = start_gateway(WEIGHBRIDGE_DRAIN_TIMEOUT="1s")
    with many_streams(gateway, [stream(CUT, ending="hold") for _ in range(MANY)], replay) as connections:
        asked_at = time.monotonic()
        gateway.process.tell(signal.SIGTERM)
        answers = [receive(connection) for connection in connections]
        assert gateway.process.wait() == 0
        assert time.monotonic() - asked_at > 0.9
    assert [answer for answer in answers if answer.endswith(b"\r\n0\r\n\r\n")] == []
    assert outcomes_after_restart(gateway) == {"interrupted": MANY}


@pytest.mark.parametrize("number", STOPS)
def test_the_second_signal_hurries(start_gateway: GatewayStarter, replay: ReplayUpstream, number: int) -> None:
    gateway = start_gateway(WEIGHBRIDGE_DRAIN_TIMEOUT=LONG)
    script, silent = stream(CUT, ending="hold"), Script(b"", ending="hold")
    with gateway.calling(ASK_STREAM, replay.play(script)) as call, dial(gateway.url) as unanswered:
        call.read_until(CUT[-40:])
        unanswered.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(silent)))
        silent.wait_for_call()
        gateway.process.tell(number)
        eventually(lambda: draining(gateway), "the news that it stops")
        assert gateway.process.popen.poll() is None
        gateway.process.tell(number)
        refusal = receive(unanswered)
        assert gateway.process.wait() == 0
        answer = call.rest()
    assert (answer.body, answer.whole) == (CUT, False)
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b'"draining"' in refusal
    assert script.seen[0].gone.wait(20)
    gateway.restart()
    records = [(record["outcome"], record["http_status"], record["usage_source"]) for record in gateway.records()]
    assert sorted(records) == [("interrupted", 200, "estimated"), ("interrupted", 503, "estimated")]


def test_in_a_hurry_too_who_waits_is_told_although_the_record_takes_its_time(
    start_gateway: GatewayStarter, replay: ReplayUpstream
) -> None:
    gateway = start_gateway(WEIGHBRIDGE_DRAIN_TIMEOUT=LONG)
    silent = Script(b"", ending="hold")
    database = sqlite3.connect(gateway.state_dir / "weighbridge.db", isolation_level=None)
    with contextlib.closing(database) as other, dial(gateway.url) as unanswered:
        unanswered.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(silent)))
        silent.wait_for_call()
        other.execute("BEGIN IMMEDIATE")  # the record waits for it, and goes to the spool
        gateway.process.tell(signal.SIGTERM)
        eventually(lambda: draining(gateway), "the news that it stops")
        gateway.process.tell(signal.SIGTERM)
        refusal = receive(unanswered)
        assert gateway.process.wait() == 0
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b'"draining"' in refusal


def test_many_signals_at_once_are_no_harm(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    """Also those that come when serving is over and the ledger is being closed."""
    gateway = start_gateway(WEIGHBRIDGE_DRAIN_TIMEOUT=LONG)
    with many_streams(gateway, [stream(CUT, ending="hold") for _ in range(20)], replay):
        while gateway.process.popen.poll() is None:
            gateway.process.tell(signal.SIGTERM)
            gateway.process.tell(signal.SIGINT)
            time.sleep(0.002)
    assert gateway.process.wait() == 0
    assert outcomes_after_restart(gateway) == {"interrupted": 20}


def test_who_is_still_sending_a_request_is_told_as_well(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway(WEIGHBRIDGE_DRAIN_TIMEOUT="0")
    with dial(gateway.url) as connection:
        connection.sendall(raw_request(gateway.key, ASK_STREAM)[:-5])
        eventually(lambda: gateway.metric("weighbridge_streams_in_flight") == 1)
        assert gateway.process.end() == 0
        head, _, body = receive(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: " in head
    error = json.loads(body)["error"]["metadata"]
    assert error["error_type"] == "draining"
    assert f"\r\nx-request-id: {error['request_id']}".encode() in head
    assert "Traceback" not in gateway.process.err
    record = gateway.json_of("usage", "--by", "request")
    assert record["request_id"] == error["request_id"]
    assert (record["outcome"], record["http_status"], record["error_type"]) == ("interrupted", 503, "draining")
