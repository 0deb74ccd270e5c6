"""Issue 12, A5: request bodies have a bound in all, and one client half of it; each is let go once it was sent."""

import asyncio
import contextlib
import gc
import gzip
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import chain, repeat

import pytest

from app.domain.errors import InvalidRequest, Overloaded, PayloadTooLarge
from app.gateway.admission.body_memory import SMALL_BYTES, WAIT_SECONDS, BodyMemory
from app.gateway.admission.call_facts import read_in_steps
from app.gateway.admission.slices import AbandonedError, run_in_slices
from tests.conftest import GatewayStarter
from tests.e2e.client import ASK_STREAM, dial, encoded
from tests.e2e.program import Gateway, eventually
from tests.edges.fault_server import Act, FaultServer
from tests.edges.process_memory import forget_peak, peak_resident_bytes, resident_bytes
from tests.edges.raw_client import ours, read_answers, request, say

BOUND = 32 * 2**20
LARGE = encoded({**ASK_STREAM, "input": "x" * 14 * 2**20})  # more than the kernel takes of it
GZIP = {"content-encoding": "gzip"}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture
def bounded(start_gateway: GatewayStarter, server: FaultServer) -> Gateway:
    return start_gateway(WEIGHBRIDGE_UPSTREAM_URL=server.url, WEIGHBRIDGE_MAX_BUFFERED_BYTES="32MiB")


def begun(stack: ExitStack, gateway: Gateway, data: bytes) -> Callable[[], bytes]:
    """Send a call on a connection that stays open; gives what came back so far."""
    client = stack.enter_context(dial(gateway.url))
    client.sendall(data)
    client.setblocking(False)
    came = bytearray()

    def heard() -> bytes:
        try:
            while piece := client.recv(65_536):
                came.extend(piece)
        except BlockingIOError:
            pass
        return bytes(came)

    return heard


def test_bodies_that_upstream_does_not_read_have_a_bound(start_gateway: GatewayStarter) -> None:
    """24 bodies of 0.8 MB in all held 820 MB. Half of the room is for others, and small ones always fit."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))  # it accepts, and never reads
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=url, WEIGHBRIDGE_MAX_BUFFERED_BYTES="32MiB")
        call = request(gateway.key, gzip.compress(LARGE), headers=GZIP)
        assert len(call) < 20_000
        bob = gateway.new_key("bob")
        pid = gateway.process.popen.pid
        forget_peak(pid)
        before, started = resident_bytes(pid), time.monotonic()
        calls = [begun(stack, gateway, call) for _ in range(24)]
        eventually(lambda: sum(map(bool, (heard() for heard in calls))) == 23, "23 refusals")
        assert time.monotonic() - started >= WAIT_SECONDS
        for heard in calls:
            for answer in read_answers(heard())[1]:
                assert (answer.status, answer.error_type, answer.value("retry-after")) == (503, "overloaded", "1")
                ours(answer)
        assert peak_resident_bytes(pid) - before < BOUND * 2
        begun(stack, gateway, call.replace(gateway.key.encode(), bob.encode()))
        begun(stack, gateway, request(gateway.key, encoded({**ASK_STREAM, "input": "x" * 60_000})))
        eventually(lambda: gateway.metric("weighbridge_upstream_connections", state="busy") == 3, "the calls that fit")
        records = [record for record in gateway.records() if record["http_status"] == 503]
        assert {(record["outcome"], record["error_type"]) for record in records} == {("rejected", "overloaded")}
        gateway.process.end(signal.SIGKILL)  # else it would wait for upstream


def test_room_is_given_back_when_clients_leave(start_gateway: GatewayStarter) -> None:
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=url, WEIGHBRIDGE_MAX_BUFFERED_BYTES="32MiB")
        call = request(gateway.key, LARGE)
        for _ in range(3):
            with ExitStack() as clients:
                begun(clients, gateway, call)
                eventually(lambda: gateway.metric("weighbridge_upstream_connections", state="busy") == 1, "a call")
            gateway.idle()
    assert {record["outcome"] for record in gateway.records()} == {"client_closed"}


def test_a_body_that_was_sent_takes_no_room(bounded: Gateway, server: FaultServer) -> None:
    """Upstream is silent, as reasoning models are for minutes."""
    silent = server.play(Act(ending="hold"))
    call = request(bounded.key, LARGE, headers=silent)
    with ExitStack() as stack:
        for count in range(1, 5):  # 56 MiB, more than three times what one client may have
            begun(stack, bounded, call)
            eventually(lambda count=count: len(server.bodies) == count, "the body")  # type: ignore[misc]


def test_a_body_that_never_fits_is_too_large(start_gateway: GatewayStarter, server: FaultServer) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=server.url, WEIGHBRIDGE_MAX_BUFFERED_BYTES="8MiB")
    for body, headers in [(LARGE, {}), (gzip.compress(LARGE), GZIP)]:
        answer = say(gateway.url, request(gateway.key, body, headers=headers)).only
        assert (answer.status, answer.error_type) == (413, "payload_too_large")
        assert "max_buffered_bytes" in ours(answer)["message"]


async def test_one_client_has_half_and_small_bodies_none() -> None:
    memory = BodyMemory(10 * SMALL_BYTES)
    alice, bob = memory.hold("alice"), memory.hold("bob")
    await alice.resize(5 * SMALL_BYTES)
    await bob.resize(SMALL_BYTES)
    assert memory.held == 5 * SMALL_BYTES
    await bob.resize(5 * SMALL_BYTES)
    with pytest.raises(PayloadTooLarge):
        await bob.resize(5 * SMALL_BYTES + 1)
    started = time.monotonic()
    with pytest.raises(Overloaded):
        await memory.hold("carol").resize(SMALL_BYTES + 1)
    assert time.monotonic() - started >= WAIT_SECONDS
    await memory.hold("carol").resize(SMALL_BYTES)
    del alice, bob
    assert memory.held == 0


async def test_who_waits_is_served_when_another_goes() -> None:
    memory = BodyMemory(10 * SMALL_BYTES)
    alice, bob, carol = memory.hold("alice"), memory.hold("bob"), memory.hold("carol")
    await alice.resize(5 * SMALL_BYTES)
    await bob.resize(5 * SMALL_BYTES)
    waiting = asyncio.create_task(carol.resize(2 * SMALL_BYTES))
    await asyncio.sleep(0)
    assert not waiting.done()
    del alice
    await asyncio.wait_for(waiting, WAIT_SECONDS / 2)
    assert memory.held == 7 * SMALL_BYTES
    await carol.resize(10)
    assert memory.held == 5 * SMALL_BYTES


@pytest.mark.parametrize("looks", [0, 2, 1000], ids=["left at once", "left", "stayed"])
@pytest.mark.parametrize("ending", ["}", "", "]"], ids=["whole", "cut", "malformed"])
async def test_a_body_that_was_read_is_freed_without_a_collection(ending: str, looks: int) -> None:
    """The scan of a large body held it until a collection, and an idle server makes none."""
    body = b'{"model":"m","input":"%b"%b' % (b"x" * 2**21, ending.encode())
    gc.disable()
    try:
        references = sys.getrefcount(body)
        left = chain([False] * looks, repeat(True))
        with contextlib.suppress(InvalidRequest, AbandonedError):
            await read_in_steps(body, lambda: next(left))
        assert sys.getrefcount(body) == references
    finally:
        gc.enable()


async def test_many_large_bodies_take_turns() -> None:
    """24 that were read at once stopped the loop for a quarter of a second at a time."""
    memory, turns, slices = BodyMemory(BOUND), 0, 0

    def work() -> Generator[None, None, None]:
        nonlocal slices
        for _ in range(20):
            slices += 1
            yield

    reading = [asyncio.create_task(run_in_slices(work(), turn=memory.turn)) for _ in range(24)]
    while not all(task.done() for task in reading):
        turns += 1
        await asyncio.sleep(0)
    assert slices == 24 * 20
    assert turns >= 24 * 19, "one slice in each turn of the loop, but for the first ones"
