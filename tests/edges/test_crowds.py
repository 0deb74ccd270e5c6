"""Very many at once who do not play along: slow readers, dribblers, the silent, those who leave. Others go on.

`--log-cli-level=info` shows what was measured.
"""

import asyncio
import logging
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.program import Gateway, eventually
from tests.edges.conftest import PATIENT
from tests.edges.fault_server import EVENT, GOOD_BODY, STREAM_HEADERS, Act, FaultServer
from tests.edges.process_memory import cpu_seconds, open_files, resident_bytes
from tests.edges.raw_client import request, say
from tests.edges.storm import Leaver, storm

HEAD = b"HTTP/1.1 200 OK\r\n" + STREAM_HEADERS[0] + b"\r\ntransfer-encoding: chunked\r\n\r\n"
LONG = (pytest.mark.long, pytest.mark.timeout(900))
GOOD_CALL_SECONDS = 1.0
MOST_PER_READER_BYTES = 1_000_000
MOST_OF_OURS_BYTES = 2_000_000
"""Of upstream's answer beyond what the client took and what the kernel lets each of our sockets hold."""

Starter = Callable[..., Gateway]
_log = logging.getLogger(__name__)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture(autouse=True)
def many_files() -> None:
    """As many as this user may have; the gateway is our child, and inherits it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture
def start(canary_key: str, tmp_path: Path) -> Iterator[Starter]:
    """Starts a gateway of the test's own in front of a fault server."""
    with ExitStack() as stack:

        def starting(server: FaultServer, **env: str) -> Gateway:
            given = {"WEIGHBRIDGE_UPSTREAM_URL": server.url, "WEIGHBRIDGE_LOG_LEVEL": "warning", **PATIENT, **env}
            return stack.enter_context(Gateway(tmp_path, canary_key, **given))

        yield starting


@pytest.fixture
def server() -> Iterator[FaultServer]:
    server = FaultServer()
    yield server
    server.close()


def good_calls(gateway: Gateway, count: int = 5) -> list[float]:
    """How long each took."""
    heard = [say(gateway.url, request(gateway.key)) for _ in range(count)]
    assert [each.only.body for each in heard] == [GOOD_BODY] * count
    return [each.seconds for each in heard]


def slow_reader(gateway: Gateway, headers: dict[str, str]) -> socket.socket:
    """Asks, reads the beginning of the answer, and no more."""
    host, port = gateway.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.settimeout(20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.sendall(request(gateway.key, headers=headers))
    begun = connection.recv(100)
    if not begun.startswith(b"HTTP/1.1 200 "):
        connection.close()
        pytest.fail(f"no stream: {begun!r}")
    return connection


def kernel_bytes() -> int:
    """What the kernel holds at most of one answer between two sockets of ours: received, and not sent yet."""
    limits = (Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[-1] for name in ("tcp_rmem", "tcp_wmem"))
    return sum(int(limit) for limit in limits)


def standing_still(act: Act, expected: int) -> list[int]:
    """What upstream could send on each connection, once it can send no more for a while."""
    last: list[int] = []
    give_up = time.monotonic() + 60
    while True:
        now = [sent() for sent in act.sent]
        if now == last and len(now) == expected:
            return now
        assert time.monotonic() < give_up, "upstream was never held back"
        last = now
        time.sleep(0.5)


@pytest.mark.parametrize("readers", [100, pytest.param(2000, marks=LONG)])
def test_slow_readers_hold_upstream_back_and_cost_little(start: Starter, server: FaultServer, readers: int) -> None:
    gateway = start(server, WEIGHBRIDGE_MAX_STREAMS=str(readers + 100), WEIGHBRIDGE_WRITE_TIMEOUT="1h")
    pid = gateway.process.popen.pid
    good_calls(gateway)
    files, resident = open_files(pid), resident_bytes(pid)
    act = Act((HEAD + chunk(EVENT), chunk(b": " + b"x" * 16_000 + b"\n\n")), "flood")
    headers = server.play(act)
    with ExitStack() as stack:
        connections = [stack.enter_context(slow_reader(gateway, headers)) for _ in range(readers)]
        sent = standing_still(act, readers)
        each = (resident_bytes(pid) - resident) / readers
        seconds = good_calls(gateway)
        ahead, slowest = max(sent) / 1000, max(seconds)
        _log.info("%d slow readers: %.0f KB each, upstream %.0f KB ahead", readers, each / 1000, ahead)
        _log.info("good calls meanwhile in %.3f s at most", slowest)
        assert each < MOST_PER_READER_BYTES
        assert max(sent) < kernel_bytes() + MOST_OF_OURS_BYTES
        assert max(seconds) < GOOD_CALL_SECONDS
        assert gateway.metric("weighbridge_streams_in_flight") == readers
        while act.sent[0]() == sent[0]:  # one reads on, and upstream goes on with it
            assert connections[0].recv(262_144)
        assert standing_still(act, readers)[1:] == sent[1:], "nobody else's did"
    gateway.idle()
    for _ in range(readers):
        assert act.gone.acquire(timeout=20), "an upstream connection outlived its client"
    eventually(lambda: open_files(pid) <= files + 10, "the end of the connections")


def test_who_does_not_read_at_all_is_cut_off(start: Starter, server: FaultServer) -> None:
    gateway = start(server, WEIGHBRIDGE_WRITE_TIMEOUT="1s")
    act = Act((HEAD + chunk(EVENT), chunk(b": " + b"x" * 16_000 + b"\n\n")), "flood")
    headers = server.play(act)
    with ExitStack() as stack:
        started = time.monotonic()
        for _ in range(20):
            stack.enter_context(slow_reader(gateway, headers))
        for _ in range(20):
            assert act.gone.acquire(timeout=10), "it was never cut off"
        assert 1.0 < time.monotonic() - started < 6.0
    gateway.idle()
    outcomes = [record["outcome"] for record in gateway.records()]
    assert outcomes == ["client_closed"] * 20


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    came = b""
    try:
        while piece := await reader.read(65_536):
            came += piece
    except ConnectionError:
        pass
    return came


async def dribble(gateway: Gateway, start: bytes, rest: bytes) -> tuple[float, bytes]:
    """Send the start, then a byte now and then; how long it took until we were cut off, and what was said to that."""
    host, port = gateway.url.removeprefix("http://").split(":")
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(start)
    closing = asyncio.ensure_future(until_closed(reader))
    for byte in rest:
        done, _ = await asyncio.wait([closing], timeout=0.1)
        if done:
            break
        writer.write(bytes([byte]))
    came = await closing
    writer.transport.abort()
    return time.monotonic() - started, came


@pytest.mark.parametrize("tenths", [1, pytest.param(10, marks=LONG)])
async def test_dribblers_and_the_silent_are_cut_off_in_time(start: Starter, server: FaultServer, tenths: int) -> None:
    limit = 2.0
    gateway = start(server, WEIGHBRIDGE_REQUEST_TIMEOUT=f"{limit:g}s")
    pid = gateway.process.popen.pid
    await asyncio.to_thread(good_calls, gateway)
    files = open_files(pid)
    call = request(gateway.key, b"x" * 1000)
    middle = call.index(b"\r\n\r\n") + 4
    many = [
        *[dribble(gateway, call[: middle - 2], b"x: " + b"y" * 1000) for _ in range(10 * tenths)],
        *[dribble(gateway, call[: middle - 2], b"x: y\r\n" * 1000) for _ in range(10 * tenths)],
        *[dribble(gateway, call[:middle], call[middle:]) for _ in range(20 * tenths)],
        *[dribble(gateway, b"", b"\r\n" * 1000) for _ in range(10 * tenths)],
        *[dribble(gateway, b"", b"") for _ in range(50 * tenths)],
    ]
    cut_off = asyncio.gather(*(asyncio.ensure_future(one) for one in many))
    seconds: list[float] = []
    while not cut_off.done():
        seconds += await asyncio.to_thread(good_calls, gateway, 2)
        await asyncio.sleep(0.1)
    lived = [each for each, _ in await cut_off]
    _log.info("%d gone after %.2f to %.2f s", len(many), min(lived), max(lived))
    _log.info("%d good calls meanwhile in %.3f s at most", len(seconds), max(seconds))
    assert limit <= min(lived)
    assert max(lived) < limit + 3.0
    assert len(seconds) >= 5
    assert max(seconds) < GOOD_CALL_SECONDS
    told = [came for _, came in await cut_off]
    assert all(came.startswith(b"HTTP/1.1 408 ") for came in told[: 40 * tenths])
    assert told[40 * tenths :] == [b""] * 60 * tenths, "of those who began no request"
    await asyncio.to_thread(gateway.idle)
    await asyncio.to_thread(eventually, lambda: open_files(pid) <= files + 10, "the end of the connections")


@pytest.mark.parametrize("clients", [300, pytest.param(3000, marks=LONG)])
async def test_clients_that_leave_leave_nothing_behind(start: Starter, server: FaultServer, clients: int) -> None:
    gateway = start(server)
    pid = gateway.process.popen.pid
    await asyncio.to_thread(good_calls, gateway)
    files = open_files(pid)
    await storm(Leaver(gateway, server).leave, 100)  # what is made once is made
    await asyncio.to_thread(gateway.idle)
    resident = resident_bytes(pid)
    started = time.monotonic()
    await storm(Leaver(gateway, server).leave, clients)
    took = time.monotonic() - started
    await asyncio.to_thread(gateway.idle)
    seconds = await asyncio.to_thread(good_calls, gateway)

    def connections() -> float:
        return sum(gateway.metric("weighbridge_upstream_connections", state=state) for state in ("busy", "opening"))

    await asyncio.to_thread(eventually, lambda: connections() == 0, "the end of upstream's connections")
    await asyncio.to_thread(eventually, lambda: open_files(pid) <= files + 10, "the end of the clients' connections")
    records = await asyncio.to_thread(gateway.records)
    used = cpu_seconds(pid)
    await asyncio.sleep(1)
    used = cpu_seconds(pid) - used
    grown = resident_bytes(pid) - resident
    _log.info("%d left in %.1f s, %d records, %+d descriptors", clients, took, len(records), open_files(pid) - files)
    _log.info("%+.1f MB, %.2f s of CPU a second at rest, good calls in %.3f s", grown / 1e6, used, max(seconds))
    assert len({record["request_id"] for record in records}) == len(records)
    assert {record["outcome"] for record in records} <= {"client_closed", "completed", "rejected", "truncated"}
    assert grown < 30_000_000
    assert used < 0.3
    assert max(seconds) < GOOD_CALL_SECONDS


def test_a_crowd_of_good_calls_among_those_who_leave(start: Starter, server: FaultServer) -> None:
    """While some leave, those who stay get their whole answer."""
    gateway = start(server)

    async def both() -> list[bytes]:
        leaving = asyncio.ensure_future(storm(Leaver(gateway, server).leave, 150, 30))
        bodies: list[bytes] = []
        while not leaving.done() or len(bodies) < 5:
            heard = await asyncio.to_thread(say, gateway.url, request(gateway.key))
            bodies.append(heard.only.body)
        await leaving
        return bodies

    bodies = asyncio.run(both())
    assert set(bodies) == {GOOD_BODY}
