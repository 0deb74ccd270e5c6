"""Issue 12, A2: what a client sends ahead of its answers is bounded.

That it is freed with the connection is shown in tests/web/test_connections.py.
"""

import contextlib
import time

import pytest

from tests.e2e.client import dial
from tests.e2e.program import Gateway
from tests.edges.process_memory import resident_bytes
from tests.edges.raw_client import read_answers

REQUESTS = {
    "healthz": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no such route": b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no key": b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    "no key to a page": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a foreign host": b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a large target": b"GET /?%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"a" * 9000),
}
MOST_GROWTH_BYTES = 30_000_000


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_that_are_sent_ahead_do_not_pile_up(gateway: Gateway, name: str) -> None:
    """25 MB of them were 1.2 GB of memory."""
    pid = gateway.process.popen.pid
    flood = REQUESTS[name] * (1_000_000 // len(REQUESTS[name]))
    assert gateway.get("/healthz").status == 200
    before, most, sent = resident_bytes(pid), 0, 0
    with dial(gateway.url) as client:
        client.settimeout(0.2)
        give_up = time.monotonic() + 1.5
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            while time.monotonic() < give_up and sent < 25_000_000:
                with contextlib.suppress(TimeoutError):
                    sent += client.send(flood)
                most = max(most, resident_bytes(pid))
        assert gateway.get("/healthz").status == 200
        most = max(most, resident_bytes(pid))
    assert most - before < MOST_GROWTH_BYTES, f"{sent} bytes sent, {(most - before) / 1e6:.0f} MB more"


def test_requests_that_are_sent_ahead_are_answered_one_by_one(gateway: Gateway) -> None:
    count = 500
    with dial(gateway.url) as client:
        client.sendall(REQUESTS["healthz"] * count)
        raw = b""
        while raw.count(b'{"status":"ok"}') < count:
            piece = client.recv(65_536)
            assert piece, "the connection ended"
            raw += piece
    _, answers = read_answers(raw)
    assert [answer.status for answer in answers] == [200] * count
