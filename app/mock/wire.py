"""The connection itself, for faults that HTTP servers do not commit: our protocol hands its transport to the app."""

import asyncio
import socket
import struct

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.mock.books import MockBooks

EXTENSION = "mock.wire"
_LINGER_NOT = struct.pack("ii", 1, 0)


class MockWire:
    """The transport under a request. Without our protocol class there is none, and its faults raise RuntimeError."""

    def __init__(self, scope: Scope) -> None:
        self._transport: asyncio.Transport | None = scope.get("extensions", {}).get(EXTENSION, {}).get("transport")

    @property
    def gone(self) -> bool:
        """Whether nothing written now can arrive."""
        return self._transport is not None and self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Bytes as they are, past HTTP."""
        self._open().write(data)

    def close(self) -> None:
        """End the connection after what was written (FIN), whatever HTTP still owes."""
        self._open().close()

    def reset(self) -> None:
        """End the connection after what was written, by a reset (RST)."""
        transport = self._open()
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.close()

    def _open(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("faults of the connection need the mock's own server")
        return self._transport


async def left(receive: Receive) -> None:
    """Returns when the caller has left. The body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


class MockProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the transport in the scope and its connections counted in the books."""

    @property
    def _books(self) -> MockBooks:
        books: MockBooks = self.app_state["books"]
        return books

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller."""
        super().connection_made(transport)
        self.access_log = False
        self._books.stats.connections += 1
        self._books.stats.open_connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller left, or we did."""
        super().connection_lost(exc)
        self._books.stats.open_connections -= 1

    def on_message_begin(self) -> None:
        """A request begins: its scope learns of the transport."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"transport": self.transport}}
