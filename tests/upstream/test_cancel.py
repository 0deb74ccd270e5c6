"""A cancelled call is closed at once, at whatever stage, and leaves nothing behind."""

import random
import socket
from collections.abc import Callable

import pytest

from app.gateway.ports import UpstreamRequest
from tests.upstream.conftest import LARGE, POST, Certificates, Scene, empty
from tests.upstream.hearing import Hearing
from tests.upstream.raw_server import Peer, Script, canned, chunked, sized, turns, until
from tests.upstream.test_timeouts import full_house

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
OWN = sized(b"own")


def never_done(*pieces: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(*pieces)
        await peer.until_closed()

    return script


async def test_before_the_loop_turns(scene: Scene) -> None:
    wire, server = await scene.wired(canned(OWN))
    scene.open(wire).cancel()
    await empty(wire)
    await turns()
    assert server.accepted == 0


async def test_while_connecting(scene: Scene) -> None:
    with full_house() as port:
        wire = scene.wire(f"http://127.0.0.1:{port}")
        hearing = scene.open(wire)
        await turns()
        assert wire.connections()["opening"] == 1
        hearing.cancel()
        await empty(wire, 1)


async def test_in_the_handshake(scene: Scene, certificates: Certificates) -> None:
    server = await scene.serve(never_done())
    wire = scene.wire(f"https://localhost:{server.port}", ca_file=certificates.ca_file)
    hearing = scene.open(wire)
    await until(lambda: server.accepted == 1)
    hearing.cancel()
    await empty(wire, 1)
    await until(lambda: server.peers[0].gone, 1)


STAGES: dict[str, tuple[tuple[bytes, ...], Callable[[Hearing], bool]]] = {
    "sent": ((), lambda hearing: True),
    "in the head": ((HEAD[:20],), lambda hearing: True),
    "after the head": ((HEAD,), lambda hearing: hearing.status == 200),
    "in the body": ((HEAD, b"some bytes"), lambda hearing: hearing.size > 0),
}


@pytest.mark.parametrize("request_", [POST, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("pieces", "reached"), STAGES.values(), ids=STAGES)
async def test_at_every_stage_upstream_sees_the_close(
    scene: Scene,
    perhaps_tls: Certificates | None,
    pieces: tuple[bytes, ...],
    reached: Callable[[Hearing], bool],
    request_: UpstreamRequest,
) -> None:
    wire, server = await scene.wired_to(never_done(*pieces), perhaps_tls)
    hearing = scene.open(wire, request_)
    await until(lambda: server.accepted == 1 and wire.connections()["busy"] == 1)
    await until(lambda: server.peers[0].sent_bytes == len(b"".join(pieces)) and reached(hearing))
    hearing.cancel()
    hearing.cancel()
    await until(lambda: server.peers[0].gone, 1)
    await empty(wire, 1)


async def test_while_paused(scene: Scene, perhaps_tls: Certificates | None) -> None:
    wire, server = await scene.wired_to(never_done(HEAD, b"some bytes"), perhaps_tls)
    hearing = scene.open(wire)
    await until(lambda: hearing.size > 0)
    assert hearing.call is not None
    hearing.call.pause()
    await turns()
    hearing.cancel()
    hearing.call.resume()
    await until(lambda: server.peers[0].gone, 1)
    await empty(wire, 1)


@pytest.mark.parametrize("word", ["head", "data"])
@pytest.mark.parametrize("answer", [OWN, chunked(b"own"), OWN + b"surplus", b"HTTP/1.1 200 OK\r\n\r\nown"])
async def test_from_within_a_word(scene: Scene, word: str, answer: bytes) -> None:
    def react(said: str, hearing: Hearing) -> None:
        if said == word:
            hearing.cancel()

    wire, server = await scene.wired(canned(answer, OWN))
    hearing = scene.open(wire, react=react)
    await until(lambda: hearing.status is not None)
    await empty(wire, 1)
    assert not hearing.over
    assert (await scene.ask(wire)).body == b"own"
    assert server.accepted == 2


async def test_after_the_end_it_does_no_harm(scene: Scene) -> None:
    """Not to the idle connection, and not to the call that the connection carries next."""
    wire, server = await scene.wired(canned(OWN, OWN, OWN))
    first = await scene.ask(wire)
    assert first.call is not None
    first.call.cancel()
    second = scene.open(wire)
    first.call.cancel()
    await second.finished()
    assert (second.body, server.accepted, wire.connections()["idle"]) == (b"own", 1, 1)


async def test_from_within_the_end(scene: Scene) -> None:
    def react(word: str, hearing: Hearing) -> None:
        if word == "end":
            nexts.append(scene.open(wire))
            assert hearing.call is not None
            hearing.call.cancel()

    nexts: list[Hearing] = []
    wire, server = await scene.wired(canned(OWN, OWN))
    await scene.open(wire, react=react).finished()
    await nexts[0].finished()
    assert (nexts[0].body, server.accepted) == (b"own", 1)


def descriptors_of_the_loop() -> int:
    """A descriptor just opened has the lowest free number: it shows how many are in use."""
    with socket.socket() as probe:
        return probe.fileno()


async def test_a_storm_of_cancels_leaves_nothing_behind(scene: Scene, perhaps_tls: Certificates | None) -> None:
    chance = random.Random(8)

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            cut = chance.randrange(1, len(OWN))
            await peer.send(*chance.choice([(OWN,), (OWN[:cut], OWN[cut:])]))

    wire, _ = await scene.wired_to(script, perhaps_tls)
    before = descriptors_of_the_loop()
    finished = 0
    for _ in range(20 if perhaps_tls else 200):
        storm = [scene.open(wire) for _ in range(10)]
        while storm:
            await turns(chance.randrange(0, 14))
            leaver = storm.pop(chance.randrange(len(storm)))
            finished += leaver.ended
            leaver.cancel()
    assert finished > 0
    await until(lambda: wire.connections()["busy"] == wire.connections()["opening"] == 0, 2)
    heard = await scene.ask(wire)
    assert (heard.body, heard.ended) == (b"own", True)
    await wire.close()
    await empty(wire)
    await until(lambda: descriptors_of_the_loop() <= before + 2, 5)


async def test_closing_the_wire_drops_every_call_without_a_word(scene: Scene) -> None:
    wire, server = await scene.wired(never_done(HEAD))
    first, second = scene.open(wire), scene.open(wire)
    await until(lambda: first.status == second.status == 200)
    opening = scene.open(wire)
    await turns(1)
    assert wire.connections() == {"idle": 0, "busy": 2, "opening": 1}
    await wire.close()
    await empty(wire, 1)
    assert opening.silent
    assert not first.over
    assert not second.over
    await until(lambda: all(peer.gone for peer in server.peers), 1)
