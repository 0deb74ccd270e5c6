"""Issue 12, E12: of an answer that its client does not read, the gateway and its sockets hold 1 MiB at the most."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import dial
from tests.edges.raw_client import request

MOST_HELD_BYTES = 2**20
OTHERS_BUFFER_BYTES = 32 * 1024
OTHERS_HOLD_BYTES = 4 * OTHERS_BUFFER_BYTES
"""What upstream's socket and the client's may hold of it: the kernel doubles what is asked for."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b": " + b"x" * 65_532 + b"\n\n"
CHUNK = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
PATIENCE_SECONDS = 20


class Flood:
    """An upstream that says as much as it can. `sent` counts."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, OTHERS_BUFFER_BYTES)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.sent = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65_536)
            connection.sendall(HEAD)
            try:
                while True:
                    self.sent += connection.send(CHUNK[self.sent % len(CHUNK) :])
            except OSError:
                pass

    def stalled_at(self) -> int:
        """What was sent, once no more can be."""
        last, since = self.sent, time.monotonic()
        while time.monotonic() < since + 0.5:
            time.sleep(0.01)
            if self.sent != last:
                last, since = self.sent, time.monotonic()
        return last

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(PATIENCE_SECONDS)


@pytest.fixture
def flood() -> Iterator[Flood]:
    upstream = Flood()
    yield upstream
    upstream.close()


@pytest.mark.parametrize("read_first", [0, 50_000_000], ids=["from the beginning", "once it has read for a while"])
def test_a_slow_reader_holds_a_megabyte(start_gateway: GatewayStarter, flood: Flood, read_first: int) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=flood.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, OTHERS_BUFFER_BYTES)
        client.settimeout(PATIENCE_SECONDS)
        host, port = gateway.url.removeprefix("http://").split(":")
        client.connect((host, int(port)))
        client.sendall(request(gateway.key))
        received = len(client.recv(100))
        while received < read_first:
            received += len(client.recv(1_000_000))
        held = flood.stalled_at() - received
        assert held < MOST_HELD_BYTES + OTHERS_HOLD_BYTES, f"{held} bytes"


def test_who_reads_is_served_quickly(start_gateway: GatewayStarter, flood: Flood) -> None:
    """10 MB a second are far beyond what any model writes. A machine with nothing else to do gives 130."""
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=flood.url)
    with dial(gateway.url) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.sendall(request(gateway.key))
        received, started = 0, time.monotonic()
        while received < 50_000_000:
            received += len(client.recv(1_000_000))
        assert time.monotonic() - started < 5
