"""A server that says exactly the bytes a test tells it to, on real sockets, and knows what it heard."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

PATIENCE_SECONDS = 10.0
"""How long anything may take before the test fails. Nothing waits that long when all is well."""

_READER_BYTES = 64 * 1024
_SEND_BUFFER_BYTES = 64 * 1024
_NOW = struct.pack("ii", 1, 0)


async def turns(count: int = 6) -> None:
    """Let the loop go round, so that what one side wrote is read by the other before the next piece is written."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something to become true, or fail."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.002)


@dataclass(frozen=True)
class HeardRequest:
    """A request as it came off the wire."""

    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n")[0]

    def values(self, name: bytes) -> list[bytes]:
        pairs = [line.split(b": ", 1) for line in self.head.split(b"\r\n")[1:] if line]
        return [value for found, value in pairs if found == name]


class Peer:
    """One accepted connection, seen from the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.sent_bytes = 0
        self.gone = False

    async def head(self) -> bytes | None:
        """The next request's head, or None when the client has closed."""
        try:
            return await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def request(self) -> HeardRequest | None:
        """The next request, whole, or None when the client has closed."""
        head = await self.head()
        body = None if head is None else await self.body(head)
        return None if head is None or body is None else HeardRequest(head, body)

    async def body(self, head: bytes) -> bytes | None:
        """The body that belongs to this head, or None when the client has closed."""
        length = sum(int(value) for value in HeardRequest(head, b"").values(b"content-length"))
        try:
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def some(self) -> bytes:
        """Whatever comes next; nothing when the client has closed."""
        try:
            return await self._reader.read(_READER_BYTES)
        except ConnectionError:
            return b""

    async def send(self, *pieces: bytes) -> None:
        """Send each piece so that the client reads it by itself."""
        for piece in pieces:
            with contextlib.suppress(ConnectionError, RuntimeError):  # RuntimeError: uvloop, when the client is gone
                self._writer.write(piece)
                await self._writer.drain()
            self.sent_bytes += len(piece)
            await turns()

    def say(self, data: bytes) -> None:
        """Put bytes on the socket in this very turn of the loop."""
        with self._own_socket() as raw:
            assert raw.send(data) == len(data)

    def hang_up(self) -> None:
        """FIN, in this very turn, with the other direction left open."""
        with self._own_socket() as raw:
            raw.shutdown(socket.SHUT_WR)

    def _own_socket(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno()))

    def close(self) -> None:
        """Say goodbye properly: FIN, after TLS's own close."""
        self._writer.close()

    def reset(self) -> None:
        """RST."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
        self._writer.transport.abort()

    async def until_closed(self) -> None:
        """Until the client has closed or reset the connection, then `gone`; what it still sends is thrown away."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(_READER_BYTES):
                pass
        self.gone = True


Script = Callable[[Peer], Awaitable[None]]
"""What happens on one connection. When it returns, the connection is closed."""


class RawServer:
    """Runs one script for each connection. What a script raises, close() raises."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []
        self.peers: list[Peer] = []
        self.port = 0

    async def start(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> Self:
        self._server = await asyncio.start_server(self._accepted, host, port, ssl=tls, limit=_READER_BYTES)
        for listening in self._server.sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def accepted(self) -> int:
        return len(self.peers)

    async def stop_listening(self) -> None:
        """Refuse new connections; those there are live on."""
        if self._server is not None:
            self._server.close()
        await turns()

    async def close(self) -> None:
        await self.stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await turns()
        if self._faults:
            raise self._faults[0]

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await self._script(peer)
        except Exception as fault:  # noqa: BLE001 - a script's assertion belongs to the test
            self._faults.append(fault)
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()


def canned(*answers: bytes, heard: list[HeardRequest] | None = None) -> Script:
    """Each request, on whichever connection, gets the next answer, in one piece."""
    waiting = list(answers)

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if heard is not None:
                heard.append(request)
            await peer.send(waiting.pop(0))

    return script


def sized(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer framed by its length."""
    lines = [b"HTTP/1.1 " + status, *headers, b"content-length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, trailers: bytes = b"", headers: tuple[bytes, ...] = ()) -> bytes:
    """An answer framed by chunks."""
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"transfer-encoding: chunked"]) + b"\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"
