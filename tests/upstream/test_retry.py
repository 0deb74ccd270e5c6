"""A call is sent again once, and only when nobody can have worked on it: design.md, decision 3."""

import asyncio
from collections.abc import Callable

import pytest

from app.domain.errors import UpstreamProtocolError, UpstreamUnreachable
from app.gateway.ports import UpstreamRequest
from app.upstream.wire.pool import LONGEST_REPEAT_SECONDS
from app.upstream.wire.wire import UpstreamWire
from tests.upstream.conftest import LARGE, POST, Certificates, Scene, empty
from tests.upstream.raw_server import PATIENCE_SECONDS, HeardRequest, Peer, Script, canned, sized, turns, until

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


def one_round_trip_is(seconds: float, wire: UpstreamWire) -> None:
    """As if the wire's one idle connection had taken so long to connect."""
    (connection,) = wire._pool._idle
    connection.repeat_seconds = seconds


@DYING
@pytest.mark.parametrize("request_", [POST, LARGE], ids=["small", "large"])
async def test_an_end_within_one_round_trip_was_there_before_the_call(
    scene: Scene, die: Death, request_: UpstreamRequest
) -> None:
    upstream = Mortal(die, [1, 1])
    wire, server = await scene.wired(upstream)
    assert (await scene.ask(wire)).retry_count == 0
    one_round_trip_is(5, wire)
    again = await scene.ask(wire, request_)
    assert (again.body, again.retry_count, server.accepted) == (b"own", 1, 2)
    assert len(upstream.heard) == 3
    assert upstream.heard[1] == upstream.heard[2]


@DYING
@pytest.mark.parametrize("request_", [POST, LARGE], ids=["small", "large"])
async def test_an_end_after_one_round_trip_may_be_upstream_s_answer(
    scene: Scene, die: Death, request_: UpstreamRequest
) -> None:
    upstream = Mortal(die, [1, 1])
    wire, server = await scene.wired(upstream)
    await scene.ask(wire)
    one_round_trip_is(0.000_001, wire)
    heard = await scene.ask(wire, request_)
    assert isinstance(heard.fault, UpstreamProtocolError)
    assert (heard.retry_count, server.accepted, len(upstream.heard)) == (0, 1, 2)


async def test_one_round_trip_is_the_time_of_connecting(scene: Scene, perhaps_tls: Certificates | None) -> None:
    wire, _ = await scene.wired_to(canned(OWN), perhaps_tls)
    await scene.ask(wire)
    (connection,) = wire._pool._idle
    assert 0 < connection.repeat_seconds <= LONGEST_REPEAT_SECONDS


async def test_a_request_is_kept_no_longer_than_it_can_be_sent_again(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await until(lambda: looked)
        await peer.send(OWN)
        await peer.request()
        await peer.until_closed()

    looked = False
    wire, _ = await scene.wired(script)
    first = scene.open(wire)
    await until(lambda: wire.connections()["busy"] == 1)
    (connection,) = wire._pool._busy
    assert connection.call is not None
    assert connection.call.body == b"", "a new connection's call is never sent again"
    looked = True
    await first.finished()
    scene.open(wire)
    assert connection.call is not None
    assert connection.call.body == POST.body
    await until(lambda: connection.call is not None and connection.call.body == b"")


@DYING
async def test_when_the_new_connection_dies_too_that_is_the_end(scene: Scene, die: Death) -> None:
    upstream = Mortal(die, [1, 0, 1])
    wire, server = await scene.wired(upstream)
    await scene.ask(wire)
    one_round_trip_is(5, wire)
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
    one_round_trip_is(5, wire)
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
    one_round_trip_is(5, wire)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamUnreachable)
    assert heard.retry_count == 1


async def test_a_repeat_can_be_cancelled(scene: Scene) -> None:
    upstream = Mortal(Peer.reset, [1, 1])
    wire, _ = await scene.wired(upstream)
    await scene.ask(wire)
    one_round_trip_is(5, wire)
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
