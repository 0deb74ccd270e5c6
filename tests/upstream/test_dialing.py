"""A name with several addresses: a dead one costs a moment once, and never the whole connect limit."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from app.domain.errors import UpstreamUnreachable
from app.upstream.wire.dialing import ATTEMPT_DELAY_SECONDS, Address, Dialer
from app.upstream.wire.wire import UpstreamWire
from tests.edges.fault_server import deaf_port
from tests.upstream.conftest import Scene, empty
from tests.upstream.raw_server import canned, sized, until

OWN = sized(b"own", b"connection: close")
V4, V6 = socket.AF_INET, socket.AF_INET6
LIVING, DEAF, REFUSING = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class NameServer:
    """Tells a wire's dialer these addresses, and counts how often it was asked."""

    def __init__(self, wire: UpstreamWire, port: int, *hosts: str) -> None:
        self._addresses: list[Address] = [(V4, (host, port)) for host in hosts]
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()
        wire._pool._dialer._look_up = self._look_up  # type: ignore[method-assign]

    async def _look_up(self) -> list[Address]:
        self.asked += 1
        await self.answers.wait()
        return self._addresses


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that is deaf at one address, and free at the others."""
    with deaf_port(DEAF) as port:
        yield port


async def timed(scene: Scene, wire: UpstreamWire) -> float:
    before = time.monotonic()
    assert (await scene.ask(wire)).body == b"own"
    return time.monotonic() - before


async def test_a_dead_address_costs_the_first_call_a_moment_and_the_next_ones_nothing(scene: Scene, deaf: int) -> None:
    server = await scene.serve(canned(*[OWN] * 9), port=deaf)
    wire = scene.wire(f"http://name.invalid:{deaf}", connect=5)
    NameServer(wire, deaf, DEAF, LIVING)
    assert ATTEMPT_DELAY_SECONDS <= await timed(scene, wire) < ATTEMPT_DELAY_SECONDS + 1
    assert await timed(scene, wire) < ATTEMPT_DELAY_SECONDS
    assert (server.accepted, wire.connections()["opening"]) == (2, 0)


async def test_an_address_that_refuses_costs_nothing(scene: Scene, deaf: int) -> None:
    await scene.serve(canned(OWN), port=deaf)
    wire = scene.wire(f"http://name.invalid:{deaf}")
    NameServer(wire, deaf, REFUSING, LIVING)
    assert await timed(scene, wire) < ATTEMPT_DELAY_SECONDS


async def test_after_a_refusal_the_next_one_is_tried_at_once(scene: Scene, deaf: int) -> None:
    await scene.serve(canned(OWN), port=deaf)
    wire = scene.wire(f"http://name.invalid:{deaf}")
    NameServer(wire, deaf, DEAF, REFUSING, LIVING)
    assert ATTEMPT_DELAY_SECONDS <= await timed(scene, wire) < 2 * ATTEMPT_DELAY_SECONDS


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ([DEAF, DEAF], "Connecting to upstream took too long."),
        ([REFUSING, REFUSING], "Upstream refused the connection."),
        ([], "Upstream could not be reached."),
    ],
)
async def test_all_are_dead(scene: Scene, deaf: int, hosts: list[str], message: str) -> None:
    wire = scene.wire(f"http://name.invalid:{deaf}", connect=0.4)
    NameServer(wire, deaf, *hosts)
    heard = await scene.ask(wire)
    assert isinstance(heard.fault, UpstreamUnreachable)
    assert heard.fault.message == message
    await empty(wire)


async def test_a_call_that_is_cancelled_leaves_no_attempt(scene: Scene, deaf: int) -> None:
    wire = scene.wire(f"http://name.invalid:{deaf}", connect=5)
    NameServer(wire, deaf, DEAF, DEAF)
    hearing = scene.open(wire)
    await until(lambda: sum("_connect" in repr(task) for task in asyncio.all_tasks()) == 3)  # the pool's task, too
    hearing.cancel()
    await empty(wire)
    await until(lambda: len(asyncio.all_tasks()) == 1)


async def test_calls_at_once_share_a_look_up(scene: Scene, deaf: int) -> None:
    server = await scene.serve(canned(*[OWN] * 9), port=deaf)
    wire = scene.wire(f"http://name.invalid:{deaf}")
    names = NameServer(wire, deaf, LIVING)
    names.answers.clear()
    calls = [scene.open(wire) for _ in range(5)]
    await until(lambda: names.asked == 1)
    calls[0].cancel()  # whoever leaves takes the look-up from nobody
    names.answers.set()
    for call in calls[1:]:
        await call.finished()
    assert (names.asked, server.accepted) == (1, 4)


async def test_a_closed_wire_leaves_no_look_up(scene: Scene) -> None:
    wire = scene.wire("http://name.invalid:1")
    NameServer(wire, 1).answers.clear()
    scene.open(wire)
    await until(lambda: wire._pool._dialer._lookup is not None)
    await wire.close()
    await until(lambda: len(asyncio.all_tasks()) == 1)


def test_families_take_turns() -> None:
    found: list[Address] = [(V6, 1), (V6, 2), (V6, 3), (V4, 4), (V4, 5)]
    assert [address for _, address in Dialer("name.invalid", 1)._ordered(found)] == [1, 4, 2, 5, 3]


def test_what_failed_is_tried_last_until_its_time_is_over() -> None:
    dialer = Dialer("name.invalid", 1)
    found: list[Address] = [(V6, 1), (V4, 2), (V6, 3)]
    dialer._try_last([(V6, 1)])
    assert [address for _, address in dialer._ordered(found)] == [2, 3, 1]
    dialer._tried_last = dict.fromkeys(dialer._tried_last, 0.0)
    assert [address for _, address in dialer._ordered(found)] == [1, 2, 3]
    assert dialer._tried_last == {}
