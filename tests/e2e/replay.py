"""An upstream that replays exact bytes: which ones, in which pieces and how it all ends is the test's to say.

A call finds its script by the header `x-replay`, which crosses the gateway. Every request is kept as it came.
"""

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

SECONDS = 20  # more than anything here takes; a test that waits so long has failed
Ending = Literal["keep", "close", "reset", "hold"]
Headers = list[tuple[str, str]]
NO_SCRIPT = b'{"error":{"message":"There is no script of that name.","code":"no_script"}}'


@dataclass
class Seen:
    """One request as it came. `gone_at` is the monotonic second at which its connection was closed from afar."""

    line: str
    headers: Headers
    body: bytes
    gone: threading.Event = field(default_factory=threading.Event)
    gone_at: float = 0.0

    def value(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)


@dataclass
class Script:
    """One answer: a raw head, then the body in pieces, each a write of its own.

    `keep` leaves the connection open for the next request, `hold` says nothing more until the caller hangs up.
    With `lockstep` a piece leaves when the test has said (`arrived`) that all before it has come through;
    when `gated`, each piece and the ending wait for one `go()`.
    """

    head: bytes
    pieces: Sequence[bytes] = ()
    ending: Ending = "keep"
    chunked: bool = False
    lockstep: bool = False
    gated: bool = False
    seen: list[Seen] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    progress: threading.Event = field(default_factory=threading.Event)  # set by each piece that leaves

    def __post_init__(self) -> None:
        self.sent = 0  # bytes of the body that the system took
        self._arrived = 0
        self._news = threading.Condition()
        self._gate = threading.Semaphore(0)

    def arrived(self, total: int) -> None:
        """So many bytes of the body have come to the client."""
        with self._news:
            self._arrived = total
            self._news.notify_all()

    def go(self) -> None:
        """Let one gated piece, or the ending, leave."""
        self._gate.release()

    def wait_for_call(self) -> Seen:
        """The first call of this script."""
        assert self.asked.wait(SECONDS), "upstream was never called"
        return self.seen[0]

    def leave_to(self, connection: socket.socket) -> None:
        connection.sendall(self.head)
        for piece in self.pieces:
            self._wait()
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if self.chunked else piece)
            self.sent += len(piece)
            self.progress.set()
        self._wait()
        if self.chunked and self.ending == "keep":
            connection.sendall(b"0\r\n\r\n")

    def _wait(self) -> None:
        if self.gated:
            assert self._gate.acquire(timeout=SECONDS), "the gate was never opened"
        if self.lockstep:
            with self._news:
                came = self._news.wait_for(lambda: self._arrived >= self.sent, SECONDS)
                assert came, f"{self.sent} bytes never came through"


class ReplayUpstream:
    """Listens on a free port of this machine; `url` is what to give the gateway as its upstream."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._scripts: dict[str, Script] = {}
        self._numbers = itertools.count()
        self._open: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api/v1"
        self.all_seen: list[Seen] = []
        self._thread = threading.Thread(target=self._accept, name="replay upstream", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)

    def play(self, script: Script) -> dict[str, str]:
        """Keep the script; gives the header that calls for it."""
        name = f"script-{next(self._numbers)}"
        self._scripts[name] = script
        return {"x-replay": name}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                while (seen := _read_request(reader)) is not None:
                    self.all_seen.append(seen)
                    if not self._answer(connection, seen):
                        return
        except (OSError, AssertionError):
            return  # the gateway hung up, or the test did: either shows where the test looks
        finally:
            self._open.discard(connection)

    def _answer(self, connection: socket.socket, seen: Seen) -> bool:
        """False when the connection is over."""
        script = self._scripts.get(seen.value("x-replay") or "") or document(NO_SCRIPT, "404 Not Found")
        script.seen.append(seen)
        script.asked.set()
        try:
            script.leave_to(connection)
            if script.ending == "hold":
                connection.recv(1)
        finally:
            if script.ending != "keep":
                seen.gone_at = time.monotonic()
                seen.gone.set()
        if script.ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return script.ending == "keep"


def _read_request(reader: BinaryIO) -> Seen | None:
    lines = []
    while line := reader.readline().decode("latin-1").rstrip("\r\n"):
        lines.append(line)
    if not lines:
        return None
    pairs = [line.partition(":") for line in lines[1:]]
    seen = Seen(lines[0], [(name.lower(), value.strip()) for name, _, value in pairs], b"")
    seen.body = reader.read(int(seen.value("content-length") or 0))
    return seen


def head(headers: Sequence[tuple[str, str]] = (), status: str = "200 OK") -> bytes:
    """A raw response head."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def stream(
    body: bytes, cuts: Iterable[int] = (), *, chunked: bool = True, ending: Ending = "keep", lockstep: bool = False
) -> Script:
    """An event stream, cut at these offsets. Not chunked, its end is the end of the connection."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(body)}), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges) if start < end]
    coding = [("Transfer-Encoding", "chunked")] if chunked else []
    ending = "close" if ending == "keep" and not chunked else ending
    opening = head([("Content-Type", "text/event-stream"), *coding])
    return Script(opening, pieces, ending, chunked=chunked, lockstep=lockstep)


def document(body: bytes, status: str = "200 OK", headers: Sequence[tuple[str, str]] = ()) -> Script:
    """A JSON answer in one piece."""
    fixed = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    return Script(head([*fixed, *headers], status), [body])
