"""Starts the program without a new interpreter: one process imports all of `app` once, and forks for each start.

An interpreter that imports the program takes most of a second of a processor; a fork takes some milliseconds. What is
forked runs the same `app.__main__.main` in a process of its own, with the arguments, environment, folder and
descriptors it was given. A test whose subject is the start of the interpreter starts `COMMAND` itself.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MAX_REQUEST_BYTES = 1 << 18
READ_BY_THE_INTERPRETER = ("PYTHON", "LC_", "LD_", "MALLOC_", "FORCE_COLOR")
"""Variables that count before the program's own code runs; who sets one gets a new interpreter."""


def can_fork(env: Mapping[str, str]) -> bool:
    """Whether a fork behaves as a new interpreter would in this environment."""
    return sys.platform == "linux" and not any(name.startswith(READ_BY_THE_INTERPRETER) for name in env)


class Forked:
    """A running process of the program, with those methods of `subprocess.Popen` that tests use."""

    def __init__(self, report: socket.socket, args: Sequence[str], stdout: IO[str] | None = None) -> None:
        self.args = args
        self.stdout = stdout
        self.returncode: int | None = None
        self._report = report
        self._waiting = threading.Lock()
        self.pid = self._number(None)

    def poll(self) -> int | None:
        with contextlib.suppress(TimeoutError, BlockingIOError):
            self._await(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        try:
            return self._await(timeout)
        except (TimeoutError, BlockingIOError):
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0) from None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and its status is on its way
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _await(self, timeout: float | None) -> int:
        with self._waiting:
            if self.returncode is None:
                self.returncode = os.waitstatus_to_exitcode(self._number(timeout))
                self._report.close()
            return self.returncode

    def _number(self, timeout: float | None) -> int:
        self._report.settimeout(timeout)
        data = self._report.recv(4)
        assert data, "the fork server has ended"
        return int.from_bytes(data, "little")


def start(
    args: Sequence[str], env: Mapping[str, str], cwd: Path | str, stdin: int, stdout: int, stderr: int
) -> socket.socket:
    """Start the program on these descriptors. The socket tells the process id and, after its end, the status."""
    report, theirs = socket.socketpair()
    request = json.dumps({"args": list(args), "env": dict(env), "cwd": str(cwd)}).encode()
    with theirs:
        socket.send_fds(_server(), [request], [theirs.fileno(), stdin, stdout, stderr])
    return report


def run(
    args: Sequence[str], env: Mapping[str, str], stdin: str | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """One command, to its end, as `subprocess.run` does it. Raises subprocess.TimeoutExpired."""
    with contextlib.ExitStack() as stack:
        given, out, err = (
            stack.enter_context(os.fdopen(os.memfd_create(name), "w+b")) for name in ("in", "out", "err")
        )
        given.write((stdin or "").encode())
        given.seek(0)
        process = Forked(start(args, env, Path.cwd(), given.fileno(), out.fileno(), err.fileno()), args)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        printed = [Path(f"/proc/self/fd/{file.fileno()}").read_text() for file in (out, err)]
    return subprocess.CompletedProcess(list(args), code, *printed)


def popen(args: Sequence[str], env: Mapping[str, str], cwd: Path | str, stderr: IO[Any]) -> Forked:
    """Start the program; what it prints is read from `stdout`."""
    read, write = os.pipe()
    with open(os.devnull) as nothing:  # noqa: PTH123 - a descriptor is all that is needed
        report = start(args, env, cwd, nothing.fileno(), write, stderr.fileno())
    os.close(write)
    return Forked(report, args, os.fdopen(read))


@functools.cache
def _server() -> socket.socket:
    """The fork server of this test process. It ends when this process does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
            cwd=Path(__file__).parents[2],
            pass_fds=[theirs.fileno()],
        )
    atexit.register(_end, ours, process)
    return ours


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    process.wait()


# -- in the server ---------------------------------------------------------------------------------------------------


def _load() -> None:
    """Everything of `app`: what one command imports costs the next one nothing."""
    sys.modules["rich"] = None  # type: ignore[assignment]  # as `serve` does
    import app

    for module in pkgutil.walk_packages(app.__path__, "app."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def _serve(control: socket.socket) -> None:
    """Fork for each request. Returns in the process that is to run the program, and only there."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 4)
        if not request:
            os._exit(0)
        if os.fork() == 0 and _keep(control, descriptors):
            return _become(**json.loads(request))
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(control: socket.socket, descriptors: list[int]) -> bool:
    """Fork again, wait for that process and report its status. True in that process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.close()
    report, *streams = descriptors
    child = os.fork()
    if child == 0:
        os.close(report)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return True
    for stream in (*streams, 0, 1, 2):
        os.close(stream)
    with contextlib.suppress(BrokenPipeError):
        os.write(report, child.to_bytes(4, "little"))
        os.write(report, os.waitpid(child, 0)[1].to_bytes(4, "little"))
    os._exit(0)


def _become(args: list[str], env: dict[str, str], cwd: str) -> None:
    """As a new interpreter would find itself."""
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    sys.argv = [str(Path(importlib.import_module("app").__path__[0]) / "__main__.py"), *args]
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(open(0, "rb", closefd=False))  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # type: ignore[misc]  # noqa: SIM115


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        _load()
        _serve(asked)
    from app.__main__ import main

    main()
