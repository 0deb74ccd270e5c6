"""Running the application: sockets, uvicorn, and a note of where they are.

    state directory/
        server.json   {"pid", "url", "admin_socket"}: there while a server runs
        admin.sock    the same application on a Unix socket, for this user (and containers that share the volume)

The note is how commands find the server that runs; which state directory to look into an entry in the user's runtime
directory tells them (app.settings.servers).
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
"""Of an answer, in the kernel, for a client that is slow; the kernel takes twice as much with its own data."""

GC_THRESHOLDS = (10_000, 20, 50)
LAST_WORDS_SECONDS = 2.5
"""For what is on its way to clients when the drain time is over: an answer of ours waits for its record, for 2 s."""

_LOOK_SECONDS = 0.05
_LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux


class CannotListenError(Exception):
    """The address cannot be had; the message is for the person who started the server."""


_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Tells when requests are served, and stops with exit code 0, however often it is told.

    serving ──signal──> draining ──no call left──> closing ──all sent──> stopped
                           └──drain time over, or a second signal: what is left is interrupted──┘
    """

    def __init__(
        self, config: uvicorn.Config, app: Application, on_started: Callable[[], None], drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._app = app
        self._on_started = on_started
        self._drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's shape
        """The first signal drains, the second one hurries. Neither is raised again afterwards, as uvicorn would."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._app.state.gateway.draining = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let streams end, then end them. Meanwhile the door is open: /readyz and new calls are told 503."""
        gateway = self._app.state.gateway
        gateway.draining = True
        now = asyncio.get_running_loop().time
        end = now() + self._drain_seconds
        if gateway.in_flight:
            _log.info("stopping: calls under way, %d now, have up to %g s", gateway.in_flight, self._drain_seconds)
        else:
            _log.info("stopping")
        while gateway.in_flight and now() < end and not self.force_exit:  # noqa: ASYNC110 - they end one by one
            await asyncio.sleep(_LOOK_SECONDS)
        if gateway.in_flight:
            _log.warning("calls that are ended before their time: %d", gateway.in_flight)
        gateway.stop()
        if gateway.in_flight:
            await self._end_arrivals()
        left: float = max(LAST_WORDS_SECONDS, end - now())
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]  # it goes to wait_for
        await super().shutdown(sockets)
        if tasks := list(self.server_state.tasks):  # after a second signal uvicorn waits for none
            await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)

    async def _end_arrivals(self) -> None:
        """End the calls whose requests are still on their way to us, once no other task is left but those."""
        tasks, now = self.server_state.tasks, asyncio.get_running_loop().time
        end = now() + LAST_WORDS_SECONDS
        while len(tasks) > self._app.state.gateway.in_flight and now() < end:  # noqa: ASYNC110 - they end one by one
            await asyncio.sleep(_LOOK_SECONDS)
        for task in list(tasks):
            task.cancel()


async def serve(
    settings: Settings, app: Application, listener: socket.socket, on_started: Callable[[str], None]
) -> None:
    """Serve until a signal says stop; the application's lifespan is open already, and so its state directory is ours.

    `on_started` gets the URL once requests are answered.
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
    """The same on sockets that others may take connections from as well; clients reach the first of them."""
    app.state.url, app.state.other_urls = url_of(sockets[0]), other_urls(sockets[0])
    protocol = partial(ClientConnection, limiter=_connection_limiter(settings, app))
    config = uvicorn_config(app, protocol, int(settings.server.keep_alive_timeout))

    def started() -> None:
        gc.collect()
        gc.freeze()  # what start-up made stays: a full collection would stop every stream for tens of milliseconds
        gc.set_threshold(*GC_THRESHOLDS)
        on_started()

    await _Server(config, app, started, settings.server.drain_timeout).serve(sockets=list(sockets))


def uvicorn_config(app: Application, protocol: Any, keep_alive_seconds: int) -> uvicorn.Config:  # noqa: ANN401
    """What uvicorn is told: to serve, and to say nothing by itself. `protocol` makes a connection's protocol."""
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
    """Where the server is reached."""
    host, port = listener.getsockname()[:2]
    return address_url(host, port)


def other_urls(listener: socket.socket) -> list[str]:
    """Where it is reached besides, if it listens on every address of this machine."""
    host, port = listener.getsockname()[:2]
    if _reachable(host) == host:
        return []
    return [address_url(address, port) for address in own_addresses(listener.family)]


def address_url(host: str, port: int) -> str:
    """Where a server that listens there is reached from this machine."""
    return f"http://{_shown_host(_reachable(host))}:{port}"


@contextlib.contextmanager
def announced(settings: Settings, url: str, admin: socket.socket) -> Iterator[None]:
    """Until the block ends the state directory and the user's runtime directory say that a server runs, and where."""
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
        with contextlib.suppress(ValueError):  # a name that no Host header can have
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
    """The listening socket; port 0 takes a free one. Raises CannotListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        resolved = error.errno is not None and error.errno > 0  # below are the codes of looking a name up
        why = os.strerror(error.errno or 0) if resolved else str(error.strerror or error).partition(" (")[0]
        message = f"cannot listen on {_shown_host(host)}:{port}: {why}"
        if error.errno == errno.EADDRINUSE:
            message += ". Is Weighbridge running already? Choose another port with --port."
        elif family == socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            message += ". Has this machine IPv6? Choose an address that it has with --host, such as 0.0.0.0."
        raise CannotListenError(message) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # the connections inherit it
    return listener


@contextlib.contextmanager
def admin_socket(state_dir: Path) -> Iterator[socket.socket]:
    """The Unix socket of the admin API, mode 0600. Long state directories get one in a private temporary directory."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        path = state_dir / "admin.sock"
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weighbridge-"))) / "admin.sock"
        check_own(path)
        path.unlink(missing_ok=True)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        before = os.umask(0o177)  # private from the first moment, and without a name that could lead elsewhere by then
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
    """The address to call from this machine: one that stands for all of them is nowhere to go to."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
