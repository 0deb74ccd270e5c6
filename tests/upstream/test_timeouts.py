"""Three kinds of patience: for a connection, for an answer's head, for the next bytes."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from app.domain.errors import UpstreamTimedOut, UpstreamUnreachable
from tests.upstream.conftest import Certificates, Scene, empty
from tests.upstream.raw_server import Peer, Script, sized, until

SHORT = 0.08
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"


@contextlib.contextmanager
def full_house() -> Iterator[int]:
    """A port where nobody answers the door, since as many as may wait are waiting."""
    with contextlib.ExitStack() as sockets:
        listening = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listening.getsockname()
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address[1]


def silent_after(*pieces: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        await peer.until_closed()

    return script


async def test_connecting_takes_too_long(scene: Scene) -> None:
    with full_house() as port:
        wire = scene.wire(f"http://127.0.0.1:{port}", connect=SHORT)
        heard = await scene.ask(wire)
        assert isinstance(heard.fault, UpstreamUnreachable)
        assert heard.fault.message == "Connecting to upstream took too long."
        await empty(wire, 1)


async def test_a_handshake_takes_too_long(scene: Scene, certificates: Certificates) -> None:
    async def script(peer: Peer) -> None:
        await peer.until_closed()

    server = await scene.serve(script)
    wire = scene.wire(f"https://localhost:{server.port}", ca_file=certificates.ca_file, connect=SHORT)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamUnreachable)
    assert heard.fault.message == "Connecting to upstream took too long."
    await until(lambda: server.peers[0].gone, 1)


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 200",), (b"HTTP/1.1 100 Continue\r\n\r\n",)], ids=repr)
async def test_no_head_in_time(scene: Scene, pieces: tuple[bytes, ...]) -> None:
    wire, server = await scene.wired(silent_after(*pieces), first_byte=SHORT)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamTimedOut)
    assert (heard.status, heard.retry_count) == (None, 0)
    await until(lambda: server.peers[0].gone, 1)


async def test_a_head_that_dribbles_buys_no_time(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nx: ")
        while not hearing.over:
            await peer.send(b"a")

    wire, _ = await scene.wired(script, first_byte=SHORT, idle=60)
    hearing = scene.open(wire)
    await hearing.finished()
    assert isinstance(hearing.fault, UpstreamTimedOut)


async def test_an_old_connection_that_stays_silent_is_not_replaced(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sized(b"own"))
        await silent_after()(peer)

    wire, server = await scene.wired(script, first_byte=SHORT)
    await scene.ask(wire)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamTimedOut)
    assert (heard.retry_count, server.accepted) == (0, 1)


@pytest.mark.parametrize("pieces", [(HEAD,), (HEAD, b"some bytes")], ids=["head", "body"])
async def test_silence_in_mid_answer(scene: Scene, pieces: tuple[bytes, ...]) -> None:
    wire, server = await scene.wired(silent_after(*pieces), idle=SHORT, first_byte=60)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamTimedOut)
    assert (heard.status, heard.chunks) == (200, list(pieces[1:]))
    await until(lambda: server.peers[0].gone, 1)


async def test_bytes_that_keep_coming_keep_the_call_alive(scene: Scene) -> None:
    """Three limits long, measured by calls to elsewhere that are silent for a quarter of one each."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        while not enough:
            await peer.send(b"a")
        await peer.send(b"b" * (1_000_000 - peer.sent_bytes + len(HEAD)))
        await peer.until_closed()

    enough: list[bool] = []
    wire, _ = await scene.wired(script, idle=4 * SHORT)
    silent, _ = await scene.wired(silent_after(), first_byte=SHORT)
    alive = scene.open(wire)
    for _ in range(12):
        assert isinstance((await scene.ask(silent)).fault, UpstreamTimedOut)
    assert not alive.over
    enough.append(True)
    await alive.finished()
    assert (alive.ended, alive.size) == (True, 1_000_000)


async def test_while_we_do_not_read_silence_is_our_own(scene: Scene) -> None:
    """The same clock; silence is counted anew when reading goes on."""
    wire, _ = await scene.wired(silent_after(HEAD, b"some bytes"), idle=SHORT)
    silent, _ = await scene.wired(silent_after(), first_byte=SHORT)
    paused = scene.open(wire)
    await until(lambda: paused.size > 0)
    assert paused.call is not None
    paused.call.pause()
    for _ in range(5):
        assert isinstance((await scene.ask(silent)).fault, UpstreamTimedOut)
        assert not paused.over
    (connection,) = wire._pool._busy
    before = connection.since
    paused.call.resume()
    assert connection.since > before + SHORT
    await paused.finished()
    assert isinstance(paused.fault, UpstreamTimedOut)
