"""Serves the mock on a socket of its own: alone, or inside another server's event loop."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import uvicorn

from app.mock.app import create_mock
from app.mock.options import MockOptions
from app.mock.wire import MockProtocol

_LAST_ANSWERS_SECONDS = 1


class MockServer(uvicorn.Server):
    """Reports when it is up, and cuts open answers when it stops: they may stall on purpose."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to whoever started us; uvicorn would also raise them again at the end."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn, then say so."""
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut, then as uvicorn."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _server(options: MockOptions) -> MockServer:
    config = uvicorn.Config(
        create_mock(options),
        http=cast("Any", MockProtocol),
        ws="none",
        lifespan="on",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
    )
    return MockServer(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def running_mock(
    options: MockOptions | None = None, port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """Serves a mock in the running event loop while the block lasts; gives its base URL (append /api/v1).

    Port 0 is any free one. It takes no signals. Raises OSError when the port is taken.
    """
    listener = _listen(host, port)
    server = _server(options or MockOptions())
    serving = asyncio.create_task(server.serve([listener]), name="mock upstream")
    ready = asyncio.create_task(server.up.wait())
    try:
        await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        yield _url(listener)
    finally:
        ready.cancel()
        server.should_exit = True
        await serving


async def serve(options: MockOptions, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serves a mock until SIGINT or SIGTERM. `announce` gets its base URL once it listens. Raises OSError."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running_mock(options, port, host) as url:
        announce(url)
        await stopped.wait()
