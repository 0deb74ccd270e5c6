"""Issue 12, C6: /readyz stayed green after upstream refused the key, and a 403 was taken for that."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.gateway.key_health import KeyHealth
from app.upstream.api.client import UpstreamApi
from app.upstream.api.key_check import UpstreamKeyCheck
from app.upstream.wire.target import Target
from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, Answer
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, document
from tests.upstream.raw_server import Peer, RawServer, sized, until

ERROR = b'{"error":{"message":"No.","code":403}}'
SAID = "upstream does not accept the server's key (HTTP 401)"
JSON = [("Content-Type", "application/json")]


def ready(gateway: Gateway) -> Answer:
    return gateway.get("/readyz", gateway.admin_key)


def test_a_401_degrades_until_the_next_success(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    assert ready(gateway).json["parts"]["upstream"]["state"] == "ok"
    for _ in range(2):
        answer = gateway.post(ASK, replay.play(document(ERROR, "401 Unauthorized", JSON)))
        assert (answer.status, answer.error_type) == (502, "upstream_auth")
    found = ready(gateway)
    assert (found.status, found.json["status"]) == (200, "degraded")
    assert found.json["parts"]["upstream"] == {"ok": False, "state": "degraded", "problem": SAID}
    assert gateway.has_logged(SAID) == 1
    for status in ("429 Slow", "500 No", "403 Forbidden"):
        gateway.post(ASK, replay.play(document(ERROR, status, JSON)))
    assert ready(gateway).json["parts"]["upstream"]["state"] == "degraded", "none of these is a success"
    assert gateway.post(ASK, replay.play(document(b"{}"))).status == 200
    assert ready(gateway).json["status"] == "ready"
    assert gateway.has_logged("upstream accepts the server's key again")


def test_a_403_speaks_of_the_call_and_passes(gateway: Gateway, replay: ReplayUpstream) -> None:
    answer = gateway.post(ASK, replay.play(document(ERROR, "403 Forbidden", JSON)))
    assert (answer.status, answer.body) == (403, ERROR)
    record = gateway.record(answer.request_id)
    assert (record["http_status"], record["outcome"]) == (403, "upstream_error")
    assert ready(gateway).json["parts"]["upstream"]["state"] == "ok"


def test_a_403_that_holds_the_key_does_not(gateway: Gateway, replay: ReplayUpstream, canary_key: str) -> None:
    body = json.dumps({"error": {"message": f"{canary_key} may not."}}).encode()
    answer = gateway.post(ASK, replay.play(document(body, "403 Forbidden", JSON)))
    assert (answer.status, answer.error_type) == (502, "upstream_error")


Answers = dict[bytes, int]


@asynccontextmanager
async def checked(answers: Answers) -> AsyncIterator[tuple[KeyHealth, list[bytes]]]:
    """A key's health, with checks against a server that answers each path with a status; what it was asked."""
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            path = request.line.split()[1]
            asked.append(path)
            assert request.values(b"authorization") == [b"Bearer sk-key"]
            await peer.send(sized(b"{}", status=b"%d X" % answers[path]))

    server = await RawServer(script).start()
    api = UpstreamApi(Target.of(f"http://127.0.0.1:{server.port}/v1"), "sk-key")
    health = KeyHealth(UpstreamKeyCheck(api), check_seconds=0.005)
    try:
        yield health, asked
    finally:
        await health.close()
        await api.close()
        await server.close()


@pytest.mark.parametrize("free", [{b"/v1/key": 200}, {b"/v1/key": 404, b"/v1/models": 200}], ids=["key", "models"])
async def test_a_free_check_clears_it(free: Answers) -> None:
    refused = dict.fromkeys(free, 401) if len(free) == 1 else {**free, b"/v1/models": 401}
    answers = dict(refused)
    async with checked(answers) as (health, asked):
        health.note(401)
        assert health.problem == SAID
        await until(lambda: len(asked) >= 2 * len(free))
        assert health.problem == SAID
        answers.update(free)
        await until(lambda: health.problem is None)
        checks = len(asked)
        await asyncio.sleep(0.02)
        assert len(asked) == checks, "a key that is taken is not asked about"


async def test_a_check_that_a_call_contradicts_is_not_believed_again() -> None:
    """Some servers answer their free routes to anybody: the part would be green every other time."""
    async with checked({b"/v1/key": 200}) as (health, asked):
        health.note(401)
        await until(lambda: health.problem is None)
        health.note(401)
        await asyncio.sleep(0.02)
        assert (health.problem, len(asked)) == (SAID, 1)
        health.note(200)
        assert (health.problem, health.unsure) == (None, False)
        health.note(401)
        await until(lambda: health.problem is None)


@pytest.mark.parametrize("status", [500, 403, 302])
async def test_other_answers_say_nothing(status: int) -> None:
    async with checked({b"/v1/key": status}) as (health, asked):
        health.note(401)
        await until(lambda: len(asked) == 3)
        assert health.problem == SAID
