"""Issue 12, E1: a steady upload may take its time; a slow one is told so (408)."""

import socket
import threading
import time
from collections.abc import Callable

import pytest

from app.web.connection.body_pace import LONGEST_SECONDS, MIN_BYTES_PER_SECOND, BodyPace
from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, dial, encoded
from tests.e2e.program import Gateway, Mock
from tests.edges.raw_client import Heard, ours, read_answers, request

WINDOW_SECONDS = 1.0


@pytest.fixture
def impatient(start_gateway: GatewayStarter, mock_process: Mock) -> Gateway:
    url = f"{mock_process.url}/api/v1"
    return start_gateway(WEIGHBRIDGE_UPSTREAM_URL=url, WEIGHBRIDGE_REQUEST_TIMEOUT=f"{WINDOW_SECONDS:g}s")


def upload(gateway: Gateway, call: bytes, step: int, pause: float) -> tuple[Heard, float]:
    """Send the head at once and the body in steps, until an answer comes."""
    started = time.monotonic()
    at = call.index(b"\r\n\r\n") + 4
    raw = bytearray()
    with dial(gateway.url) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(10)
        answered = threading.Event()

        def listen() -> None:
            while piece := client.recv(65_536):
                raw.extend(piece)
                if b"\r\n\r\n" in raw and read_answers(bytes(raw))[1][0].whole:
                    break
            answered.set()

        listener = threading.Thread(target=listen)
        listener.start()
        client.sendall(call[:at])
        while at < len(call) and not answered.is_set():
            client.sendall(call[at : at + step])
            at += step
            answered.wait(pause)
        listener.join(10)
    heard = Heard(bytes(raw), "open", time.monotonic() - started)
    _, heard.answers = read_answers(heard.raw)
    return heard, time.monotonic() - started


def test_a_steady_upload_takes_longer_than_the_timeout(impatient: Gateway) -> None:
    body = encoded({**ASK, "input": "x" * 60_000})
    heard, seconds = upload(impatient, request(impatient.key, body), 2_000, 0.1)
    assert seconds > 2.5 * WINDOW_SECONDS
    assert heard.only.status == 200


@pytest.mark.parametrize("step", [100, 10_000_000], ids=["a dribble", "silence"])
def test_a_slow_upload_is_told_so(impatient: Gateway, step: int) -> None:
    body = encoded({**ASK, "input": "x" * 60_000})
    call = request(impatient.key, body)
    call = call if step == 100 else call[:-10]
    before = impatient.records()
    heard, seconds = upload(impatient, call, step, 0.05)
    assert (heard.only.status, heard.only.error_type) == (408, "request_timeout")
    assert "8192 bytes a second" in ours(heard.only)["message"]
    assert heard.only.value("connection") == "close"
    assert WINDOW_SECONDS <= seconds < WINDOW_SECONDS + 2
    record = impatient.settled(before)
    assert (record["outcome"], record["http_status"], record["error_type"]) == ("rejected", 408, "request_timeout")


def test_so_is_one_of_a_route_that_is_no_call(impatient: Gateway) -> None:
    call = request(impatient.admin_key, b"{" + b" " * 900, target="/admin/api/keys")
    heard, _ = upload(impatient, call[:-1], 10, 0.05)
    assert (heard.only.status, heard.only.error_type) == (408, "request_timeout")


def paced(bytes_at: Callable[[int], int], window: int = 30) -> int | None:
    """The second at which a body that comes so is too slow."""
    pace = BodyPace(0, window)
    for half in range(1, 4000):
        now = half / 2
        pace.received = bytes_at(int(now))
        if pace.is_too_slow(now):
            return int(now)
    return None


def test_the_pace_holds_over_any_window() -> None:
    rate = MIN_BYTES_PER_SECOND
    assert paced(lambda now: rate * now) == LONGEST_SECONDS, "15 minutes in all"
    assert paced(lambda now: rate * now // 2) == 30
    assert paced(lambda _: 10**9) == 30, "a quick beginning buys no time"
    assert paced(lambda now: 10**9 if now < 20 else 2 * 10**9) == 50
    assert paced(lambda now: rate * 30 * (now // 29)) == LONGEST_SECONDS, "it may come in bursts"
