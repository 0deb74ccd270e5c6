"""Running the application: sockets, uvicorn, and a note of where they are.

    state directory/
        server.json   {"pid", "url", "admin_socket"}: there while a server runs
        admin.sock    the same application on a Unix socket, for this user (and containers that share the volume)

The note is how commands find the server that runs.
"""

import asyncio
import contextlib
import errno
import gc
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn

from app.settings import Settings
from app.web.application import Application
from app.web.doorkeeper import Doorkeeper, DoorLimits
from app.web.protocol import ClientConnection
from app.web.request_rules import RequestRules

BACKLOG = 4096
GC_THRESHOLDS = (10_000, 20, 50)
_LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS, 108 on Linux


class CannotListenError(Exception):
    """The address cannot be had; the message is for the person who started the server."""


class _Server(uvicorn.Server):
    """Tells when requests are served, and stops with exit code 0, however often it is told."""

    def __init__(self, config: uvicorn.Config, app: Application, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's shape
        """The first signal drains, the second one hurries. Neither is raised again afterwards, as uvicorn would."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new calls and let streams end; in a hurry, end them."""
        self._app.state.gateway.draining = True
        await super().shutdown(sockets)
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.sleep(0)


async def serve(
    settings: Settings, app: Application, listener: socket.socket, on_started: Callable[[str], None]
) -> None:
    """Serve until a signal says stop; the application's lifespan is open already, and so its state directory is ours.

    `on_started` gets the URL once requests are answered.
    """
    host, port = listener.getsockname()[:2]
    url = f"http://{_shown_host(host)}:{port}"
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(ClientConnection, doorkeeper=_doorkeeper(settings, app)),  # type: ignore[arg-type]  # it is called
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
        timeout_keep_alive=int(settings.server.keep_alive_timeout),
        timeout_graceful_shutdown=max(1, int(settings.server.drain_timeout)),
    )
    with _admin_socket(settings.storage.state_dir) as admin:
        note = settings.storage.state_dir / "server.json"

        def started() -> None:
            gc.collect()
            gc.freeze()  # what start-up made stays: a full collection would stop every stream for tens of milliseconds
            gc.set_threshold(*GC_THRESHOLDS)
            content = {"pid": os.getpid(), "url": url, "admin_socket": admin.getsockname()}
            note.write_text(json.dumps(content) + "\n", "utf-8")
            on_started(url)

        try:
            await _Server(config, app, started).serve(sockets=[listener, admin])
        finally:
            note.unlink(missing_ok=True)


def _doorkeeper(settings: Settings, app: Application) -> Doorkeeper:
    server, gateway = settings.server, app.state.gateway
    rules = RequestRules(frozenset(host.encode("ascii") for host in server.allowed_hosts))
    connections = 2 * server.max_streams + 100
    limits = DoorLimits(server.request_timeout, server.write_timeout, connections, server.max_streams + 500)
    return Doorkeeper(rules, limits, gateway.new_id, gateway.refused)


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; port 0 takes a free one. Raises CannotListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        message = f"cannot listen on {_shown_host(host)}:{port}: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:
            message += ". Is Weighbridge running already? Choose another port with --port."
        raise CannotListenError(message) from None


@contextlib.contextmanager
def _admin_socket(state_dir: Path) -> Iterator[socket.socket]:
    """The Unix socket of the admin API, mode 0600. Long state directories get one in a private temporary directory."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        path = state_dir / "admin.sock"
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weighbridge-"))) / "admin.sock"
        path.unlink(missing_ok=True)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(os.fspath(path))
        stack.callback(path.unlink, missing_ok=True)
        path.chmod(0o600)
        listener.listen(16)
        yield listener


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
