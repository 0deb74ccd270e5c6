"""Servers that run here: an entry for each in the user's runtime directory, so that commands find them by themselves.

    $XDG_RUNTIME_DIR/weighbridge/NAME.json, else /run/user/UID/weighbridge/NAME.json
        {"pid", "url", "admin_socket", "state_dir", "config"}    there while the server runs, for this user only

NAME stands for the state directory: a server that was killed leaves an entry that the next one there replaces. A system
without such a directory, as containers are, has no entries: there a command is told which server is meant.
"""

import contextlib
import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from app.private_files import UntrustedFile, make_own_directory, read_own, write_whole

_CONNECT_SECONDS = 1.0
_NAMED_BY = (
    "WEIGHBRIDGE_CONFIG",
    "WEIGHBRIDGE_STATE_DIR",
    "WEIGHBRIDGE_DATABASE_URL",
    "WEIGHBRIDGE_DATABASE_URL_FILE",
)
"""Who sets one of these has said which server is meant."""


@dataclass(slots=True, frozen=True)
class RunningServer:
    """Where a server runs, and on what. `config` is the file it was started with, if any."""

    pid: int
    url: str
    admin_socket: Path
    state_dir: Path
    config: Path | None

    @property
    def named(self) -> str:
        """What to type so that a command means this one."""
        return f"--config {self.config}" if self.config else f"WEIGHBRIDGE_STATE_DIR={self.state_dir}"


def runtime_dir(environ: Mapping[str, str]) -> Path | None:
    """The directory of the entries, if the user has a private runtime directory. It may not be there yet."""
    given = environ.get("XDG_RUNTIME_DIR")
    user = Path(given) if given else Path("/run/user", str(os.geteuid()))
    if not user.is_absolute():
        return None
    try:
        found = user.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return user / "weighbridge" if private else None


@contextlib.contextmanager
def entered(server: RunningServer, environ: Mapping[str, str]) -> Iterator[None]:
    """An entry for the server until the block ends. Without a runtime directory, or without room in it, there is none.

    Commands then need to be told which server is meant, and nothing else is lost.
    """
    directory = runtime_dir(environ)
    if directory is None:
        yield
        return
    path = directory / f"{sha256(os.fsencode(server.state_dir)).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, UntrustedFile):
        make_own_directory(directory)
        write_whole(path, _as_json(server), durable=False)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def running_servers(environ: Mapping[str, str]) -> list[RunningServer]:
    """The servers that run, by address. None when the environment says itself which one is meant."""
    directory = runtime_dir(environ)
    if directory is None or any(environ.get(name) for name in _NAMED_BY):
        return []
    try:
        paths = sorted(directory.glob("*.json"))
    except OSError:
        return []
    found = [server for path in paths if (server := _read(path)) is not None and _answers(server.admin_socket)]
    return sorted(found, key=lambda server: server.url)


def _as_json(server: RunningServer) -> bytes:
    content = {
        "pid": server.pid,
        "url": server.url,
        "admin_socket": str(server.admin_socket),
        "state_dir": str(server.state_dir),
        "config": None if server.config is None else str(server.config),
    }
    return f"{json.dumps(content)}\n".encode()


def _read(path: Path) -> RunningServer | None:
    """What an entry says; None for what is no entry of ours."""
    try:
        said = json.loads(read_own(path))
        config = None if said["config"] is None else Path(said["config"])
        return RunningServer(
            int(said["pid"]), str(said["url"]), Path(said["admin_socket"]), Path(said["state_dir"]), config
        )
    except (OSError, UntrustedFile, ValueError, KeyError, TypeError):
        return None


def _answers(path: Path) -> bool:
    """Whether somebody listens on the socket. One that is too busy to take a connection at once does, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except (BlockingIOError, TimeoutError):
            return True
        except (OSError, ValueError):
            return False
    return True
