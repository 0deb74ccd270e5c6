"""Finds running servers: each writes an entry to the user's runtime directory, and commands read it.

    $XDG_RUNTIME_DIR/weighbridge/NAME.json, else /run/user/UID/weighbridge/NAME.json
        {"pid", "url", "admin_socket", "state_dir", "config"}    there while the server runs, for this user only

NAME is made from the state directory: a killed server leaves its entry, and the next one there replaces it. Without
such a directory, as in containers, there are no entries, and a command must be told which server to use.
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
"""If one of these is set, it names the server."""


@dataclass(slots=True, frozen=True)
class RunningServer:
    """A running server: its addresses, its state directory, and its `config` file if it has one."""

    pid: int
    url: str
    admin_socket: Path
    state_dir: Path
    config: Path | None

    @property
    def named(self) -> str:
        """What to type so that a command uses this server."""
        return f"--config {self.config}" if self.config else f"WEIGHBRIDGE_STATE_DIR={self.state_dir}"


def runtime_dir(environ: Mapping[str, str]) -> Path | None:
    """The directory of the entries, if the user has a private runtime directory. It may not exist yet."""
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
    """Keep an entry for the server until the block ends.

    Without a runtime directory, or space in it, there is no entry, and commands must be told which server to use.
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
    """The running servers, sorted by address. Empty if the environment names one itself."""
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
    """Read an entry. None if the file is not one of ours."""
    try:
        said = json.loads(read_own(path))
        config = None if said["config"] is None else Path(said["config"])
        return RunningServer(
            int(said["pid"]), str(said["url"]), Path(said["admin_socket"]), Path(said["state_dir"]), config
        )
    except (OSError, UntrustedFile, ValueError, KeyError, TypeError):
        return None


def _answers(path: Path) -> bool:
    """Whether a server listens on the socket. A busy server, which cannot take a connection at once, counts too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except (BlockingIOError, TimeoutError):
            return True
        except (OSError, ValueError):
            return False
    return True
