"""A call is repeated once, and only when an old connection died before it had said a word."""

import asyncio
from collections.abc import Callable

import pytest

from app.domain.errors import UpstreamProtocolError, UpstreamUnreachable
from app.gateway.ports import UpstreamRequest
from tests.upstream.conftest import LARGE, POST, Scene, empty
from tests.upstream.raw_server import PATIENCE_SECONDS, HeardRequest, Peer, Script, sized, turns

OWN = sized(b"own")
Death = Callable[[Peer], None]
DYING = pytest.mark.parametrize("die", [Peer.reset, Peer.close], ids=["reset", "closed"])


class Mortal:
    """Answers `lives` requests on each connection; on the next one it says `last_words` and dies."""

    def __init__(self, die: Death, lives: list[int], last_words: bytes = b"") -> None:
        self._die = die
        self._lives = lives
        self._last_words = last_words
        self.heard: list[HeardRequest] = []

    async def __call__(self, peer: Peer) -> None:
        for _ in range(self._lives.pop(0)):
            await self._hear(peer)
            await peer.send(OWN)
        await self._hear(peer)
        if self._last_words:
            await peer.send(self._last_words)
        self._die(peer)

    async def _hear(self, peer: Peer) -> None:
        request = await peer.request()
        if request is not None:
            self.heard.append(request)


@DYING
@pytest.mark.parametrize("request_", [POST, LARGE], ids=["small", "large"])
async def test_an_old_connection_that_dies_wordless_is_replaced(
    scene: Scene, die: Death, request_: UpstreamRequest
) -> None:
    upstream = Mortal(die, [1, 1])
    wire, server = await scene.wired(upstream)
    assert (await scene.ask(wire)).retry_count == 0
    again = await scene.ask(wire, request_)
    assert (again.body, again.retry_count, server.accepted) == (b"own", 1, 2)
    assert len(upstream.heard) == 3
    assert upstream.heard[1] == upstream.heard[2]


@DYING
async def test_when_the_new_connection_dies_too_that_is_the_end(scene: Scene, die: Death) -> None:
    upstream = Mortal(die, [1, 0, 1])
    wire, server = await scene.wired(upstream)
    await scene.ask(wire)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamProtocolError)
    assert (heard.status, heard.retry_count, server.accepted, len(upstream.heard)) == (None, 1, 2, 3)
    assert (await scene.ask(wire)).body == b"own"


@DYING
async def test_a_new_connection_that_dies_is_not_replaced(scene: Scene, die: Death) -> None:
    upstream = Mortal(die, [0, 1])
    wire, server = await scene.wired(upstream)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamProtocolError)
    assert (heard.retry_count, server.accepted, len(upstream.heard)) == (0, 1, 1)


@DYING
@pytest.mark.parametrize("last_words", [b"H", b"\r\n", OWN[:20], OWN[:-1], b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_after_one_byte_nothing_is_repeated(scene: Scene, die: Death, last_words: bytes) -> None:
    upstream = Mortal(die, [1], last_words)
    wire, server = await scene.wired(upstream)
    await scene.ask(wire)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamProtocolError)
    assert (heard.retry_count, heard.ended, server.accepted, len(upstream.heard)) == (0, False, 1, 2)


async def test_when_nobody_listens_any_more_the_repeat_is_reported_too(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OWN)
        await peer.request()
        await server.stop_listening()
        peer.reset()

    wire, server = await scene.wired(script)
    await scene.ask(wire)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamUnreachable)
    assert heard.retry_count == 1


async def test_a_repeat_can_be_cancelled(scene: Scene) -> None:
    upstream = Mortal(Peer.reset, [1, 1])
    wire, _ = await scene.wired(upstream)
    await scene.ask(wire)
    hearing = scene.open(wire)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not wire.connections()["opening"]:
            await turns(1)
    hearing.cancel()
    await empty(wire)
    assert hearing.silent


async def test_nobody_there(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    wire, server = await scene.wired(script)
    await server.stop_listening()
    hearing = scene.open(wire)
    assert hearing.silent  # never before open() returns
    await hearing.finished()
    assert isinstance(hearing.fault, UpstreamUnreachable)
    assert hearing.fault.message == "Upstream refused the connection."


async def test_no_such_host(scene: Scene) -> None:
    for host in ("nowhere.invalid", f"{'a' * 64}.invalid"):
        heard = await scene.ask(scene.wire(f"http://{host}:1"))
        assert isinstance(heard.fault, UpstreamUnreachable)
        assert host not in heard.fault.message


async def test_a_closed_wire_refuses(scene: Scene) -> None:
    script: Script = Mortal(Peer.close, [5])
    wire, server = await scene.wired(script)
    await scene.ask(wire)
    await wire.close()
    hearing = scene.open(wire)
    assert hearing.silent
    await hearing.finished()
    assert isinstance(hearing.fault, UpstreamUnreachable)
    assert server.accepted == 1
