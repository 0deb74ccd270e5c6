"""Which connections carry a second call. The next caller is somebody else: it must read nothing but its own answer."""

import select
import time
from collections.abc import Callable

import pytest

from app.upstream.wire.wire import UpstreamWire
from tests.upstream.conftest import LARGE, Scene
from tests.upstream.hearing import Hearing
from tests.upstream.raw_server import HeardRequest, Peer, Script, canned, chunked, sized, turns, until

FOREIGN = sized(b"another tenant's secret")
OWN = sized(b"own")
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
NEWLINES = sized(b"{}\r\n\r\n")


def first_then_own(*pieces: bytes) -> Script:
    """The first request gets the pieces, every other one, on whichever connection, its own answer."""
    asked: list[HeardRequest] = []

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            asked.append(request)
            await peer.send(*(pieces if len(asked) == 1 else (OWN,)))

    return script


def idle(wire: UpstreamWire) -> int:
    return wire.connections()["idle"]


KEPT = {
    "sized": OWN,
    "sized and empty": sized(b""),
    "ends in line ends": NEWLINES,
    "only line ends": sized(b"\r\n\r\n\r\n"),
    "chunked": chunked(b"one", b"two"),
    "chunked and empty": chunked(),
    "204": NO_CONTENT,
    "304 with a length": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    "HTTP/1.0 that asks for it": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
    "after an interim answer": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OWN,
}


@pytest.mark.parametrize("answer", KEPT.values(), ids=KEPT)
async def test_a_proper_end_leaves_a_connection_for_the_next_call(scene: Scene, answer: bytes) -> None:
    wire, server = await scene.wired(canned(*[answer] * 5))
    for _ in range(5):
        assert (await scene.ask(wire)).ended
    assert (server.accepted, wire.connections()) == (1, {"idle": 1, "busy": 0, "opening": 0})


@pytest.mark.parametrize("cut", range(1, len(NEWLINES)))
async def test_where_the_end_can_be_seen_a_cut_answer_leaves_a_connection_too(scene: Scene, cut: int) -> None:
    wire, server = await scene.wired(first_then_own(NEWLINES[:cut], NEWLINES[cut:]))
    assert (await scene.ask(wire)).body == b"{}\r\n\r\n"
    assert (await scene.ask(wire)).body == b"own"
    end_of_head = NEWLINES.index(b"\r\n\r\n")
    unseen = range(end_of_head, end_of_head + 4)  # the blank line itself is cut: it may be the end, it may be surplus
    assert server.accepted == (2 if cut in unseen else 1)


NOT_KEPT = {
    "bytes after a length": OWN + b"x",
    "an answer after a length": OWN + FOREIGN,
    "half an answer after a length": OWN + FOREIGN[:-4],
    "a line end after a length": OWN + b"\r\n",
    "line ends after line ends": NEWLINES + b"\r\n",
    "line ends after nothing but line ends": sized(b"\r\n") + b"\r\n",
    "a line end after an empty body": sized(b"") + b"\r\n",
    "an answer after an empty body": sized(b"") + FOREIGN,
    "an interim answer after a length": OWN + b"HTTP/1.1 100 Continue\r\n\r\n",
    "a switch after a length": OWN + b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nabc",
    "bytes after the last chunk": chunked(b"own") + b"x",
    "an answer after the last chunk": chunked(b"own") + FOREIGN,
    "a line end after the last chunk": chunked(b"own") + b"\r\n",
    "line ends after the last chunk": chunked(b"own") + b"\r\n\r\n",
    "a body after 204": NO_CONTENT + b"hello",
    "an answer after 204": NO_CONTENT + FOREIGN,
    "a line end after 204": NO_CONTENT + b"\r\n",
    "the length's body after 204": b"HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc",
    "chunks after 304": b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "Connection: close": sized(b"own", b"connection: close"),
    "Connection: x, Close": sized(b"own", b"Connection: x, Close"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nown",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\ncontent-length: 3\r\n\r\nown",
}


@pytest.mark.parametrize("answer", NOT_KEPT.values(), ids=NOT_KEPT)
async def test_anything_over_closes_the_connection(scene: Scene, answer: bytes) -> None:
    wire, server = await scene.wired(first_then_own(answer))
    first = await scene.ask(wire)
    assert first.ended
    assert first.body in (b"own", b"", b"{}\r\n\r\n", b"\r\n")
    assert idle(wire) == 0
    second = await scene.ask(wire)
    assert (second.body, second.retry_count, server.accepted) == (b"own", 0, 2)


@pytest.mark.parametrize("surplus", [b"x", b"\r\n", b"\r\n\r\n", FOREIGN])
@pytest.mark.parametrize("answer", [OWN, sized(b"own\r\n"), chunked(b"own")])
async def test_anything_over_closes_it_when_the_body_came_by_itself_too(
    scene: Scene, answer: bytes, surplus: bytes
) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    wire, server = await scene.wired(first_then_own(head + b"\r\n\r\n", body + surplus))
    assert (await scene.ask(wire)).body.rstrip() == b"own"
    assert idle(wire) == 0
    assert (await scene.ask(wire)).body == b"own"
    assert server.accepted == 2


@pytest.mark.parametrize("unasked", [b"x", b"\r\n", FOREIGN, b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
async def test_an_unasked_byte_on_an_idle_connection_closes_it(scene: Scene, unasked: bytes) -> None:
    wire, server = await scene.wired(first_then_own(OWN, unasked))
    assert (await scene.ask(wire)).body == b"own"
    await until(lambda: idle(wire) == 0)
    second = await scene.ask(wire)
    assert (second.body, second.retry_count, server.accepted) == (b"own", 0, 2)


@pytest.mark.parametrize("rude", [lambda peer: peer.say(FOREIGN), Peer.hang_up], ids=["speaks", "hangs up"])
async def test_what_arrived_before_the_loop_looked_is_noticed(scene: Scene, rude: Callable[[Peer], None]) -> None:
    """The next call leaves in the very turn in which the last one ended, and the unasked bytes are already there."""
    wire, server = await scene.wired(first_then_own(OWN))
    nexts: list[Hearing] = []

    def react(word: str, _: Hearing) -> None:
        if word == "end":
            rude(server.peers[0])
            (connection,) = wire._pool._idle
            assert connection._transport is not None
            assert select.select([connection._transport.get_extra_info("socket")], [], [], 5)[0], "it is there"
            nexts.append(scene.open(wire))

    await scene.ask(wire)  # the connection that will be idle
    await scene.open(wire, react=react).finished()
    await nexts[0].finished()
    assert (nexts[0].body, nexts[0].retry_count, server.accepted) == (b"own", 0, 2)


async def test_an_unasked_answer_while_others_are_busy_reaches_nobody(scene: Scene) -> None:
    wire, _ = await scene.wired(first_then_own(OWN, FOREIGN))
    heard = [scene.open(wire) for _ in range(20)]
    for hearing in heard:
        await hearing.finished()
    heard += [await scene.ask(wire) for _ in range(5)]
    assert {hearing.body for hearing in heard} == {b"own"}


async def test_a_length_that_is_too_short_gives_no_more_than_it_promised(scene: Scene) -> None:
    wire, _ = await scene.wired(first_then_own(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nownFOREIGN"))
    assert (await scene.ask(wire)).body == b"own"
    assert (await scene.ask(wire)).body == b"own"


async def test_the_connection_used_last_is_used_next(scene: Scene) -> None:
    spoken: list[Peer] = []

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            spoken.append(peer)
            await until(lambda: bool(go))
            await peer.send(OWN)

    go: list[bool] = []
    wire, server = await scene.wired(script)
    calls = [scene.open(wire) for _ in range(3)]
    await until(lambda: len(spoken) == 3)
    assert wire.connections() == {"idle": 0, "busy": 3, "opening": 0}
    go.append(True)
    for call in calls:
        await call.finished()
    assert idle(wire) == 3
    last = list(wire._pool._idle)[-1]
    for _ in range(4):
        await scene.ask(wire)
        assert list(wire._pool._idle)[-1] is last
    assert (server.accepted, len(set(spoken[3:]))) == (3, 1)


async def test_idle_connections_expire_each_at_its_time(scene: Scene) -> None:
    wire, server = await scene.wired(canned(*[OWN] * 20), first_byte=0.2)
    calls = [scene.open(wire) for _ in range(3)]
    for call in calls:
        await call.finished()
    first, second, third = wire._pool._idle
    second.usable_until = 0
    await until(lambda: idle(wire) == 2)
    assert second not in wire._pool._idle
    third.usable_until = 0
    assert (await scene.ask(wire)).body == b"own"
    assert (list(wire._pool._idle), server.accepted) == ([first], 3), "the freshest was too old, and was not used"


KEEP_ALIVE = {
    b"timeout=5": 4.0,
    b"timeout=5, max=100": 4.0,
    b"max=100,TIMEOUT = 10": 9.0,
    b'timeout="5"': 4.0,
    b"timeout=1": 0.5,
    b"timeout=0": 0.0,
    b"timeout=3600": 55.0,
    b"timeout=56": 55.0,
    b"timeout=": 55.0,
    b"timeout=-1": 55.0,
    b"timeout=9999999999999": 55.0,
    b"": 55.0,
    b",=,": 55.0,
}


@pytest.mark.parametrize(("value", "seconds"), KEEP_ALIVE.items())
async def test_a_connection_idles_for_less_than_upstream_waits(scene: Scene, value: bytes, seconds: float) -> None:
    wire, _ = await scene.wired(canned(sized(b"own", b"Keep-Alive: " + value)))
    before = time.monotonic()
    await scene.ask(wire)
    (connection,) = wire._pool._idle
    assert before + seconds <= connection.usable_until <= time.monotonic() + seconds


async def test_a_connection_is_not_used_when_upstream_may_be_closing_it(scene: Scene) -> None:
    wire, server = await scene.wired(canned(*[sized(b"own", b"keep-alive: timeout=0")] * 3))
    for number in range(1, 4):
        assert (await scene.ask(wire)).retry_count == 0
        assert server.accepted == number


async def test_a_connection_that_upstream_closed_while_idle_is_not_used(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OWN)

    wire, server = await scene.wired(script)
    for n in range(1, 4):
        heard = await scene.ask(wire)
        assert (heard.body, heard.retry_count, server.accepted) == (b"own", 0, n)
        await until(lambda: idle(wire) == 0)


async def test_an_answer_before_the_request_is_through_leaves_no_connection(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(OWN)
        await peer.until_closed()

    wire, server = await scene.wired(script)
    large = await scene.ask(wire, LARGE)
    assert (large.body, large.ended, idle(wire)) == (b"own", True, 0)
    assert (await scene.ask(wire)).body == b"own"
    assert server.accepted == 2


async def test_a_paused_call_leaves_a_connection_that_reads_again(scene: Scene) -> None:
    def react(word: str, hearing: Hearing) -> None:
        if word == "data":
            assert hearing.call is not None
            hearing.call.pause()

    wire, server = await scene.wired(canned(OWN, OWN))
    first = scene.open(wire, react=react)
    await first.finished()
    assert first.call is not None
    assert (await scene.ask(wire)).body == b"own"
    first.call.pause()  # a word too late means nothing to the connection's next call
    first.call.resume()
    first.call.cancel()
    await turns()
    assert (server.accepted, idle(wire)) == (1, 1)
