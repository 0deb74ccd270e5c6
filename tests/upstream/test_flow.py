"""Neither side is made to hold what the other does not take."""

import asyncio

import pytest

from app.domain.errors import UpstreamProtocolError
from app.gateway.ports import UpstreamRequest
from tests.upstream.conftest import LARGE, POST, Certificates, Scene
from tests.upstream.hearing import Hearing
from tests.upstream.raw_server import HeardRequest, Peer, canned, sized, turns, until

MIB = 1024 * 1024
TOTAL = 16 * MIB
BLOCK = bytes(range(256)) * 256
FRAMINGS = {"sized": b"content-length: %d\r\n" % TOTAL, "to the end": b""}


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
async def test_a_paused_call_holds_upstream_back(
    scene: Scene,
    perhaps_tls: Certificates | None,
    framing: bytes,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        for _ in range(TOTAL // len(BLOCK)):
            await peer.send(BLOCK)

    def react(word: str, hearing: Hearing) -> None:
        if word == "data" and not resumed:
            assert hearing.call is not None
            hearing.call.pause()

    resumed: list[bool] = []
    wire, server = await scene.wired_to(script, perhaps_tls)
    hearing = scene.open(wire, react=react)
    await until(lambda: hearing.size > 0)
    await stalled(server.peers[0])
    assert hearing.size < MIB
    assert server.peers[0].sent_bytes < TOTAL // 2  # what is on its way is in the kernel's buffers
    resumed.append(True)
    assert hearing.call is not None
    hearing.call.resume()
    await hearing.finished()
    assert (hearing.ended, hearing.size) == (True, TOTAL)
    assert hearing.body == BLOCK * (TOTAL // len(BLOCK))


async def stalled(peer: Peer) -> None:
    """Until a quarter of a second brings the server no further; it would be through in less."""
    before = -1
    while peer.sent_bytes != before:
        before = peer.sent_bytes
        await asyncio.sleep(0.25)


async def test_a_call_may_be_paused_before_it_has_a_connection(scene: Scene) -> None:
    wire, server = await scene.wired(canned(sized(b"own"), sized(b"own")))
    for _ in range(2):  # the second time, the connection is there
        hearing = scene.open(wire)
        assert hearing.call is not None
        hearing.call.pause()
        await until(lambda: server.accepted == 1 and server.peers[0].sent_bytes > 0)
        await turns()
        assert hearing.silent
        hearing.call.resume()
        await hearing.finished()
        assert hearing.body == b"own"
        server.peers[0].sent_bytes = 0


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 8 * MIB])
async def test_a_request_of_any_size_arrives_whole(
    scene: Scene,
    perhaps_tls: Certificates | None,
    size: int,
) -> None:
    heard: list[HeardRequest] = []
    script = canned(sized(b"one"), sized(b"two"), heard=heard)
    wire, server = await scene.wired_to(script, perhaps_tls)
    body = (BLOCK * (size // len(BLOCK) + 1))[:size]
    for answer in (b"one", b"two"):
        assert (await scene.ask(wire, UpstreamRequest("POST", "/responses", [], body))).body == answer
    assert [request.body == body for request in heard] == [True, True]
    assert server.accepted == 1


TOO_LARGE = sized(b'{"error": {}}', b"connection: close", status=b"413 Payload Too Large")


async def test_upstream_may_refuse_a_large_request_before_it_is_through(
    scene: Scene,
    perhaps_tls: Certificates | None,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(TOO_LARGE)
        await peer.until_closed()

    wire, server = await scene.wired_to(script, perhaps_tls)
    heard = await scene.ask(wire, LARGE)
    assert (heard.status, heard.body, heard.ended) == (413, b'{"error": {}}', True)
    await until(lambda: server.peers[0].gone, 1)


async def test_a_refusal_is_heard_even_when_upstream_hangs_up_right_behind_it(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.say(TOO_LARGE)
        peer.hang_up()
        await peer.until_closed()

    wire, _ = await scene.wired(script)
    heard = await scene.ask(wire, LARGE)
    assert (heard.status, heard.body, heard.ended) == (413, b'{"error": {}}', True)


@pytest.mark.parametrize("request_", [POST, LARGE], ids=["small", "large"])
async def test_upstream_that_hangs_up_without_reading_is_noticed_at_once(
    scene: Scene, request_: UpstreamRequest
) -> None:
    """Bytes still unsent must not keep the call waiting for its first-byte timeout."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.hang_up()
        await until(lambda: hearing.over)

    wire, _ = await scene.wired(script, first_byte=600)
    hearing = scene.open(wire, request_)
    await hearing.finished()
    assert isinstance(hearing.fault, UpstreamProtocolError)
