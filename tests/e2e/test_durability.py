"""Promise P2 through `kill -9`: the record is durable before the client can see the end of the answer."""

import signal

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, ASK_STREAM, dial, raw_request
from tests.e2e.program import Gateway, eventually
from tests.e2e.replay import ReplayUpstream, Script, document, stream
from tests.e2e.samples import OPENAI, wire
from tests.record_fields import TOKENS

ROUNDS = 5


def ids(gateway: Gateway, outcome: str) -> list[str]:
    return [record["request_id"] for record in gateway.records() if record["outcome"] == outcome]


def test_killed_the_instant_the_terminal_event_is_read(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    whole: list[str] = []
    for number in range(ROUNDS):
        script = stream(wire("01-openai-completed"), range(0, 8_000, 400 + number), ending="hold")
        with gateway.calling(ASK_STREAM, replay.play(script)) as call:
            call.read_until(b'"total_tokens":1610')
            gateway.process.tell(signal.SIGKILL)
            whole.append(call.answer.request_id)
        gateway.restart()
        assert ids(gateway, "completed") == whole
    for record in gateway.records():
        assert [record[name] for name in TOKENS] == list(OPENAI.tokens.values())


def test_killed_the_instant_a_document_is_read(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    body = b'{"status":"completed","usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}'
    with gateway.calling(ASK, replay.play(document(body))) as call:
        call.read_until(body)
        gateway.process.tell(signal.SIGKILL)
        request_id = call.answer.request_id
    gateway.restart()
    assert gateway.record(request_id)["total_tokens"] == 3


def test_open_calls_are_interrupted(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    scripts = [Script(b"", ending="hold"), stream(wire("47-cut-before-terminal"), ending="hold")]
    connections = [dial(gateway.url) for _ in scripts]
    for connection, script in zip(connections, scripts, strict=True):
        connection.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(script)))
    eventually(lambda: len(ids(gateway, "in_progress")) == 2, "the records of the open calls")
    open_ids = ids(gateway, "in_progress")
    gateway.restart(signal.SIGKILL)
    for connection in connections:
        connection.close()
    assert ids(gateway, "interrupted") == open_ids
    assert all(record["finished_at"] for record in gateway.records())


def test_what_was_made_before_the_kill_is_there_after_it(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    first, second = gateway.key, gateway.new_key("alice")
    gateway.restart(signal.SIGKILL)
    for key in (first, second):
        gateway.key = key
        assert gateway.post(ASK, replay.play(document(b"{}"))).status == 200


@pytest.mark.long
def test_killed_under_load(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    """Ten calls at once, each round at another moment; who saw the end has a record, and nobody has two."""
    gateway = start_gateway()
    seen: set[str] = set()
    for number in range(20):
        scripts = [stream(wire("01-openai-completed"), range(0, 8_000, 50 + 30 * number)) for _ in range(10)]
        connections = [dial(gateway.url) for _ in scripts]
        for connection, script in zip(connections, scripts, strict=True):
            connection.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(script)))
        got = [connection.recv(500 * (number + 1)) for connection in connections[: number % 10]]
        gateway.process.tell(signal.SIGKILL)
        for connection, begun in zip(connections, got + [b""] * 10, strict=False):
            answer = begun
            try:
                while piece := connection.recv(65_536):
                    answer += piece
            except ConnectionResetError:
                pass
            connection.close()
            if b'"total_tokens":1610' in answer:
                seen.add(answer.split(b"x-request-id: ")[1].split(b"\r\n")[0].decode())
        gateway.restart()
    found = [record["request_id"] for record in gateway.records()]
    assert len(found) == len(set(found))
    assert seen <= set(ids(gateway, "completed"))
