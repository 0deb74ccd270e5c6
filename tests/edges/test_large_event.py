"""One event of 20 MB: it passes exactly, in little memory, and others are served meanwhile."""

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import pytest

from tests.e2e.client import ASK, ASK_STREAM, Body
from tests.e2e.program import Gateway
from tests.edges.conftest import PATIENT
from tests.edges.fault_server import COMPLETED, EVENT, GOOD_BODY, STREAM_HEADERS, FaultServer
from tests.edges.process_memory import forget_peak, peak_resident_bytes, resident_bytes
from tests.edges.raw_client import request, say

_log = logging.getLogger(__name__)

SIZE = 20_000_000
MOST_ADDED_BYTES = 64_000_000
GOOD_CALL_SECONDS = 1.0
TEXT = b"The quick brown fox. " * (SIZE // 21)
DELTA = b'data: {"type":"response.output_text.delta","delta":"' + TEXT + b'"}\n\n'
TERMINAL = COMPLETED.replace(b'"usage"', b'"output":[{"text":"' + TEXT + b'"}],"usage"')
DOCUMENT = (
    b'{"id":"resp_d","object":"response","status":"completed","output":[{"text":"' + TEXT + b'"}],'
    b'"usage":{"input_tokens":11,"output_tokens":7,"total_tokens":18}}'
)
COMMENTS = b": x\n" * 1_000_000
UNENDED = b'data: {"type":"response.output_text.delta","delta":"' + TEXT


def streamed(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\n" + STREAM_HEADERS[0] + b"\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


ANSWERS: dict[str, tuple[bytes, bytes, Body, str]] = {
    "a delta": (streamed(EVENT + DELTA + COMPLETED), EVENT + DELTA + COMPLETED, ASK_STREAM, "completed"),
    "the terminal event": (streamed(EVENT + TERMINAL), EVENT + TERMINAL, ASK_STREAM, "completed"),
    "an event that never ends": (streamed(UNENDED), UNENDED, ASK_STREAM, "truncated"),
    "lines of comments": (streamed(COMMENTS), COMMENTS, ASK_STREAM, "truncated"),
    "a document": (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(DOCUMENT) + DOCUMENT,
        DOCUMENT, ASK, "completed",
    ),
}  # fmt: skip


class Others(threading.Thread):
    """Calls one after the other, for as long as the block lasts."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway
        self._enough = threading.Event()
        self.seconds: list[float] = []
        self.bodies: set[bytes] = set()

    def run(self) -> None:
        while not self._enough.is_set():
            heard = say(self._gateway.url, request(self._gateway.key))
            self.seconds.append(heard.seconds)
            self.bodies.add(heard.only.body)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join()


@pytest.fixture(scope="module")
def gateway(fault_server: FaultServer, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("large")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=fault_server.url, **PATIENT) as running:
        say(running.url, request(running.key))
        yield running


def taken(gateway: Gateway, data: bytes, pause_seconds: float) -> tuple[int, Any, str]:
    """Bytes of the body, its digest and the request's id; with a rest between two reads, as on a slow line."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        with connection.makefile("rb") as answer:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += answer.readline()
            size, digest = 0, hashlib.sha256()
            for piece in pieces(answer, head):
                size += len(piece)
                digest.update(piece)
                if pause_seconds:
                    time.sleep(pause_seconds)
    return size, digest.hexdigest(), head.split(b"x-request-id: ")[1].split(b"\r\n")[0].decode()


def pieces(answer: Any, head: bytes) -> Iterator[bytes]:  # noqa: ANN401 - a file
    if b"content-length: " in head:
        left = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        while left:
            piece = answer.read(min(left, 65_536))
            assert piece, "the answer was cut"
            left -= len(piece)
            yield piece
        return
    while size := int(answer.readline(), 16):
        yield answer.read(size)
        assert answer.readline() == b"\r\n"
    assert answer.readline() == b"\r\n"


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("pause_seconds", [0, 0.002], ids=["at once", "slowly"])
def test_a_large_event_costs_little(
    gateway: Gateway, fault_server: FaultServer, name: str, pause_seconds: float
) -> None:
    answer, body, asked, outcome = ANSWERS[name]
    pid = gateway.process.popen.pid
    resident = resident_bytes(pid)
    forget_peak(pid)
    data = request(gateway.key, asked, headers=fault_server.answer(answer))
    with Others(gateway) as others:
        size, digest, request_id = taken(gateway, data, pause_seconds)
    added = peak_resident_bytes(pid) - resident
    _log.info("%s: %.1f MB at the peak; others in %.3f s at most", name, added / 1e6, max(others.seconds))
    assert (size, digest) == (len(body), hashlib.sha256(body).hexdigest())
    assert added < MOST_ADDED_BYTES
    assert max(others.seconds) < GOOD_CALL_SECONDS
    assert others.bodies == {GOOD_BODY}
    record = gateway.record(request_id)
    assert (record["outcome"], record["bytes_out"]) == (outcome, len(body))
    assert record["total_tokens"] == 18 if outcome == "completed" else record["usage_source"] == "estimated"
