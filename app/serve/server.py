"""Runs the application: sockets, uvicorn, and a note with their addresses.

    state directory/
        server.json   {"pid", "url", "admin_socket"}: exists while a server runs
        admin.sock    the same application on a Unix socket, for this user (and containers that share the volume)

Commands find the running server by the note. An entry in the user's runtime directory names the state directory
(app.settings.servers).
"""

import asyncio
import contextlib
import errno
import gc
import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from app.private_files import check_own, write_whole
from app.serve.own_addresses import own_addresses, own_name
from app.settings import Settings
from app.settings.addresses import parse_host_header
from app.settings.servers import RunningServer, entered
from app.store.lock import NOTE_NAME
from app.web.application import Application
from app.web.connection.limiter import ConnectionLimiter, ConnectionLimits
from app.web.connection.protocol import ClientConnection
from app.web.connection.request_rules import RequestRules

BACKLOG = 4096
SEND_BUFFER_BYTES = 96 * 1024
"""What the kernel buffers of an answer for a slow client. With its own data the kernel takes twice as much."""

GC_THRESHOLDS = (10_000, 20, 50)
LAST_ANSWERS_SECONDS = 2.5
"""The time for answers that are still being sent after the drain: our own answers wait up to 2 s for their records."""

_LOOK_SECONDS = 0.05
_LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux


class CannotListenError(Exception):
    """The server cannot listen on its address. The message is for the person who started it."""


_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Reports when requests are served, and stops with exit code 0 after any number of signals.

    serving ──signal──> draining ──no call left──> closing ──all sent──> stopped
                           └──drain time over, or a second signal: remaining calls are interrupted──┘
    """

    def __init__(
        self, config: uvicorn.Config, app: Application, on_started: Callable[[], None], drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._app = app
        self._on_started = on_started
        self._drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report it."""
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's shape
        """Drain at the first signal, and interrupt at the second. uvicorn would raise the signals again afterwards."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._app.state.gateway.draining = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for running calls, then end them. Meanwhile the server still answers /readyz and new calls with 503."""
        gateway = self._app.state.gateway
        gateway.draining = True
        now = asyncio.get_running_loop().time
        end = now() + self._drain_seconds
        if gateway.in_flight:
            _log.info("stopping: %d running calls have up to %g s to end", gateway.in_flight, self._drain_seconds)
        else:
            _log.info("stopping")
        while gateway.in_flight and now() < end and not self.force_exit:  # noqa: ASYNC110 - they end one by one
            await asyncio.sleep(_LOOK_SECONDS)
        if gateway.in_flight:
            _log.warning("the drain time is over: %d running calls are interrupted", gateway.in_flight)
        gateway.stop()
        if gateway.in_flight:
            await self._end_arrivals()
        left: float = max(LAST_ANSWERS_SECONDS, end - now())
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]  # uvicorn passes it to wait_for
        await super().shutdown(sockets)
        if tasks := list(self.server_state.tasks):  # after a second signal uvicorn does not wait
            await asyncio.wait(tasks, timeout=LAST_ANSWERS_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)

    async def _end_arrivals(self) -> None:
        """End calls whose requests have not arrived completely, once no other task is left."""
        tasks, now = self.server_state.tasks, asyncio.get_running_loop().time
        end = now() + LAST_ANSWERS_SECONDS
        while len(tasks) > self._app.state.gateway.in_flight and now() < end:  # noqa: ASYNC110 - they end one by one
            await asyncio.sleep(_LOOK_SECONDS)
        for task in list(tasks):
            task.cancel()


async def serve(
    settings: Settings, app: Application, listener: socket.socket, on_started: Callable[[str], None]
) -> None:
    """Serve until a signal. The application's lifespan must be open, so that this process holds the state directory.

    `on_started` is called with the URL once requests are answered.
    """
    url = url_of(listener)
    with admin_socket(settings.storage.state_dir) as admin, contextlib.ExitStack() as stack:

        def started() -> None:
            stack.enter_context(announced(settings, url, admin))
            on_started(url)

        await serve_on(settings, app, (listener, admin), started)


async def serve_on(
    settings: Settings, app: Application, sockets: Sequence[socket.socket], on_started: Callable[[], object]
) -> None:
    """Serve on sockets that other processes may share. The first is the one for clients."""
    app.state.url, app.state.other_urls = url_of(sockets[0]), other_urls(sockets[0])
    protocol = partial(ClientConnection, limiter=_connection_limiter(settings, app))
    config = uvicorn_config(app, protocol, int(settings.server.keep_alive_timeout))

    def started() -> None:
        gc.collect()
        gc.freeze()  # objects of the start-up stay; collecting them would stop all streams for tens of milliseconds
        gc.set_threshold(*GC_THRESHOLDS)
        on_started()

    await _Server(config, app, started, settings.server.drain_timeout).serve(sockets=list(sockets))


def uvicorn_config(app: Application, protocol: Any, keep_alive_seconds: int) -> uvicorn.Config:  # noqa: ANN401
    """The configuration of uvicorn, without its own logs. `protocol` makes a connection's protocol."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        log_level=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive_seconds,
    )


def url_of(listener: socket.socket) -> str:
    """The URL of the server on this machine."""
    host, port = listener.getsockname()[:2]
    return address_url(host, port)


def other_urls(listener: socket.socket) -> list[str]:
    """URLs for other machines, if the server listens on all addresses of this machine."""
    host, port = listener.getsockname()[:2]
    if _reachable(host) == host:
        return []
    return [address_url(address, port) for address in own_addresses(listener.family)]


def address_url(host: str, port: int) -> str:
    """The URL, from this machine, of a server that listens on a host and port."""
    return f"http://{_shown_host(_reachable(host))}:{port}"


@contextlib.contextmanager
def announced(settings: Settings, url: str, admin: socket.socket) -> Iterator[None]:
    """Keep the notes of the running server in the state directory and the user's runtime directory during the block."""
    state_dir, config = settings.storage.state_dir, settings.file
    note, path = state_dir / NOTE_NAME, Path(admin.getsockname())
    content = {"pid": os.getpid(), "url": url, "admin_socket": str(path)}
    write_whole(note, f"{json.dumps(content)}\n".encode())
    server = RunningServer(os.getpid(), url, path, state_dir, None if config is None else config[0])
    try:
        with entered(server, os.environ):
            yield
    finally:
        note.unlink(missing_ok=True)


def _connection_limiter(settings: Settings, app: Application) -> ConnectionLimiter:
    server, gateway = settings.server, app.state.gateway
    hosts = set(server.allowed_hosts)
    if not server.on_loopback:
        with contextlib.suppress(ValueError):  # not a valid name for a Host header
            hosts.add(parse_host_header(own_name()))
    rules = RequestRules(
        frozenset(host.encode("ascii") for host in hosts),
        frozenset(origin.encode("ascii") for origin in server.allowed_origins),
        any_address=not server.on_loopback,
    )
    connections = 2 * server.max_streams + 100
    limits = ConnectionLimits(server.request_timeout, server.write_timeout, connections, server.max_streams + 500)
    return ConnectionLimiter(rules, limits, gateway.new_id, gateway.refused)


def listen(host: str, port: int) -> socket.socket:
    """The listening socket. Port 0 takes a free port. Raises CannotListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        resolved = error.errno is not None and error.errno > 0  # codes of a name's look-up are negative
        why = os.strerror(error.errno or 0) if resolved else str(error.strerror or error).partition(" (")[0]
        message = f"cannot listen on {_shown_host(host)}:{port}: {why}"
        if error.errno == errno.EADDRINUSE:
            message += ". Is Weighbridge running already? Choose another port with --port."
        elif family == socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            message += ". This machine may have no IPv6. Choose one of its addresses with --host, such as 0.0.0.0."
        raise CannotListenError(message) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # connections inherit it
    return listener


@contextlib.contextmanager
def admin_socket(state_dir: Path) -> Iterator[socket.socket]:
    """The Unix socket of the admin API, mode 0600. If the path is too long, it is in a private temporary directory."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        path = state_dir / "admin.sock"
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weighbridge-"))) / "admin.sock"
        check_own(path)
        path.unlink(missing_ok=True)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        before = os.umask(0o177)  # private from its creation on
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        stack.callback(path.unlink, missing_ok=True)
        listener.listen(16)
        yield listener


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reachable(host: str) -> str:
    """The address to call from this machine: loopback in place of an address that stands for all."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
