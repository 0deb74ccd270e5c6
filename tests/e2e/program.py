"""The program as a process: `weighbridge serve`, `weighbridge mock-upstream`, and every other command."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.client import ASK, ASK_STREAM, SECONDS, Answer, Body, OpenCall, opened
from tests.e2e.leaks import files, leaks, process
from tests.support import fork_server

COMMAND = (sys.executable, "-m", "app")
FORK: tuple[str, ...] = ()
START_SECONDS = 45  # on a machine with everything else to do as well
Value = TypeVar("Value")


def eventually(look: Callable[[], Value], what: str = "it") -> Value:
    """The first true value of `look`. For what follows a moment later, in another process."""
    give_up = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < give_up, f"{what} never came"
        time.sleep(0.02)
    return found


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the shell that runs the tests, but the way to the programs beside this Python and elsewhere."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    no_entries = str(home / "no-runtime-directory")  # or commands would find the servers of other tests
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": no_entries, **more}


def run(*arguments: str, env: Mapping[str, str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    if fork_server.can_fork(env):
        return fork_server.run(arguments, env, stdin, START_SECONDS)
    command = [*COMMAND, *arguments]
    return subprocess.run(
        command, env=env, input=stdin, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )


class Process:
    """A program that runs until told to stop. What it prints is in `out` and `err`, also while it runs."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        env: Mapping[str, str],
        ready: str,
        folder: Path,
        command: tuple[str, ...] = FORK,
    ) -> None:
        """Returns once `ready`, a pattern, was printed on stdout; its first group is `url`.

        `command` is what is started: a fork of the program where that does, or COMMAND, a new interpreter.
        """
        if command == FORK and not fork_server.can_fork(env):
            command = COMMAND
        self._lines: list[str] = []
        self._printed = threading.Condition()
        self._err_path = folder / f"stderr-{secrets.token_hex(4)}"
        started = time.monotonic()
        self.popen: subprocess.Popen[str] | fork_server.Forked
        with self._err_path.open("wb") as err:
            if command == FORK:
                self.popen = fork_server.popen(arguments, env, folder, err)
            else:
                self.popen = subprocess.Popen(
                    [*command, *arguments], env=dict(env), stdout=subprocess.PIPE, stderr=err, text=True, cwd=folder
                )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self._wait_for(ready)
        self.start_seconds = time.monotonic() - started

    @property
    def out(self) -> str:
        return "".join(self._lines)

    @property
    def err(self) -> str:
        return self._err_path.read_text()

    def tell(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self) -> int:
        code = self.popen.wait(START_SECONDS)
        self._reader.join(SECONDS)
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        return code

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code. Harmless when it is over already."""
        if self.popen.poll() is None:
            self.tell(number)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.wait()
            raise

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._printed:
                self._lines.append(line)
                self._printed.notify_all()
        with self._printed:
            self._lines.append("")
            self._printed.notify_all()

    def _wait_for(self, pattern: str) -> str:
        def seen() -> re.Match[str] | bool:
            return re.search(pattern, self.out) or self._lines[-1:] == [""]

        with self._printed:
            found = self._printed.wait_for(seen, START_SECONDS)
        if not isinstance(found, re.Match):
            self.popen.kill()
            self.wait()
            pytest.fail(f"it did not start:\n{self.out}\n{self.err}")
        return found[1]


class Gateway:
    """`weighbridge serve` on a free port, in a home of its own, with an upstream key that must never be seen.

    `key` is a client's. What ends here is searched for keys: output, logs, database, /proc, /metrics (`leaks`).
    """

    _program = FORK

    def __init__(self, folder: Path, upstream_key: str, *arguments: str, **env: str) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.secrets = {"upstream key": upstream_key}
        self.env = clean_environment(folder, WEIGHBRIDGE_STATE_DIR=str(self.state_dir), WEIGHBRIDGE_LOG_LEVEL="debug")
        self._serve_env = {
            **self.env,
            "OPENROUTER_API_KEY": upstream_key,
            "WEIGHBRIDGE_UPSTREAM_PASS_HEADERS": "x-fault, x-replay, x-mock-*",  # how a test scripts its upstream
            **env,
        }
        self._arguments = ("serve", "--port", "0", *arguments)
        self.answers: list[Answer] = []
        self.process = self._start()
        shown = re.search(r"OPENAI_API_KEY=(sk-wb-[A-Za-z0-9]+)", self.process.out)
        self.key = shown[1] if shown else self.new_key("default")
        self.first_key = self.key if shown else None

    def _start(self) -> Process:
        started = Process(self._arguments, self._serve_env, r"ready at (http://\S+)\n", self.folder, self._program)
        self.url = started.url
        self.admin_key = (self.state_dir / "admin-key").read_text().strip()
        self.secrets["admin key"] = self.admin_key
        return started

    def restart(self, number: int = signal.SIGKILL) -> None:
        """End the server with a signal and start it anew on the same state."""
        self.process.end(number)
        self.process = self._start()

    # -- as an operator ----------------------------------------------------------------------------------------

    def command(self, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """A command on the same state directory."""
        done = run(*arguments, env=self.env)
        assert done.returncode == exit_code, f"{arguments} exited {done.returncode}: {done.stderr}"
        return done

    def json_of(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.command(*arguments, "--json").stdout)

    def new_key(self, client: str) -> str:
        """A key for a client, made over the admin API. A database that is slow for a moment is asked again."""

        def made() -> str:
            answer = self.admin("POST", "/keys", {"client": client})
            assert answer.status in (201, 503), answer.body
            return str(answer.json["key"]) if answer.status == 201 else ""

        key = eventually(made, "a key")
        self.secrets[f"key of {client}"] = key
        return key

    def admin(self, method: str, path: str, body: Body = b"") -> Answer:
        with opened(f"{self.url}/admin/api{path}", self.admin_key, body, method=method) as call:
            return call.rest()

    def records(self) -> list[dict[str, Any]]:
        """The whole ledger, each record as `usage --by request --json` has it."""
        return [json.loads(line) for line in self.admin("GET", "/usage?by=request").body.splitlines()]

    def record(self, id_: str, field: str = "request_id") -> dict[str, Any]:
        """The one record of a call, which must be there now. Upstreams that send an x-request-id of their own pass
        theirs to the caller; such calls are found by `response_id`.
        """
        found = [record for record in self.records() if record[field] == id_]
        assert len(found) == 1, f"{len(found)} records of {id_}"
        return found[0]

    def settled(self, before: list[dict[str, Any]]) -> dict[str, Any]:
        """The one record that came after these, once it is settled: for calls that never saw their id."""
        known = {record["request_id"] for record in before}

        def new() -> list[dict[str, Any]]:
            return [r for r in self.records() if r["request_id"] not in known and r["outcome"] != "in_progress"]

        found = eventually(new, "the record")
        assert len(found) == 1
        return found[0]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(self.get("/metrics").body.decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        assert samples, f"there is no metric {name}"
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def has_logged(self, text: str) -> int:
        """How often the text was logged, once it was: lines are written a moment after what they tell of."""
        return eventually(lambda: self.process.err.count(text), f"the log line: {text}")

    def idle(self) -> None:
        """Wait until nothing is in flight, and the records of what was are on disk: a call ends before its commit."""
        eventually(lambda: self.metric("weighbridge_streams_in_flight") == 0, "an end of all streams")
        eventually(lambda: self.metric("weighbridge_ledger_queue_depth") == 0, "a commit of all records")

    # -- as a client -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def calling(
        self, body: Body = ASK_STREAM, headers: Mapping[str, str] | None = None, path: str = "/api/v1/responses"
    ) -> Iterator[OpenCall]:
        with opened(self.url + path, self.key, body, headers) as call:
            self.answers.append(call.answer)
            yield call

    def post(
        self, body: Body = ASK, headers: Mapping[str, str] | None = None, path: str = "/api/v1/responses"
    ) -> Answer:
        with self.calling(body, headers, path) as call:
            return call.rest()

    def get(self, path: str, key: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        with opened(self.url + path, key, headers=headers, method="GET") as call:
            return call.rest()

    # -- at the end --------------------------------------------------------------------------------------------

    def leaks(self) -> list[str]:
        """Every key that stands where none may. While the server runs."""
        stdout = self.process.out
        if self.first_key is not None:
            self.secrets["first key"] = self.first_key
            stdout = stdout.replace(self.first_key, "", 1)
        shown = [(f"answer {a.status}", repr((a.headers, a.body)).encode()) for a in self.answers]
        places = [
            ("stdout", stdout.encode()),
            ("/metrics", self.get("/metrics").body),
            *shown,
            *process(self.process.popen.pid),
            *files(self.folder, but=["admin-key"]),
        ]
        return leaks(places, self.secrets)

    def close(self) -> None:
        """Search for keys, stop, search again (the last words are written then)."""
        if self.process.popen.poll() is None:
            try:
                found = self.leaks()
            except ConnectionRefusedError:  # it was told to stop, and has stopped meanwhile
                found = []
            assert self.process.end() == 0, self.process.err
        else:
            found = []
        found += leaks(files(self.folder, but=["admin-key"]), self.secrets)
        assert found == []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FreshGateway(Gateway):
    """Started by an interpreter of its own: /proc shows its environment and its command line as for a user."""

    _program = COMMAND


class Mock(Process):
    """`weighbridge mock-upstream` with a key, quick, and on a free port. Faults come with each call (x-mock-fault)."""

    def __init__(self, folder: Path, key: str, *arguments: str) -> None:
        env = clean_environment(folder, WEIGHBRIDGE_MOCK_KEY=key)
        super().__init__(
            ("mock-upstream", "--port", "0", "--pace", "0", *arguments), env, r"(http://\S+)/api/v1\n", folder
        )
        self._key = key

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        with opened(self.url + path, self._key, method="GET") as call:
            return call.rest().json

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
