"""Several worker processes behind one port, and the parent that starts, restarts and stops them.

    parent   listens, holds the lock of the state directory, prints the welcome; has no loop and no threads
      ├── worker 1   takes connections from the same two sockets; its own state is in worker-1/
      ├── worker 2   ...
      └── ...

The parent replaces a worker that ends, and passes signals on to all. If the parent is killed, they end within a second.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from app.main import create_app
from app.private_files import UntrustedFile, make_own_directory
from app.serve.first_key import NOTE_NAME, FirstKey
from app.serve.run import LOCK_WAIT_SECONDS as PARENT_WAIT_SECONDS
from app.serve.run import Problem, with_mock
from app.serve.server import CannotListenError, admin_socket, announced, listen, other_urls, serve_on, url_of
from app.serve.signals import STOPS, StopSignals
from app.serve.welcome import Welcome
from app.settings import Secret, Settings
from app.settings.admin_key import admin_key
from app.store.faults import StoreFault
from app.store.lock import StoreLock
from app.store.spool.orphaned_spools import inherit
from app.telemetry.logging import LogOutput
from app.telemetry.worker_metrics import WorkerMetrics

LOCK_WAIT_SECONDS = 10.0
"""How long a worker waits for one of an earlier parent that still serves its last streams."""
ORPHAN_SECONDS = 0.9
"""How long a worker may take to end after its parent was killed."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
_LONG_LIFE_SECONDS = 30.0
_SECOND_SIGNAL_SECONDS = 0.05

MakeLog = Callable[[int], LogOutput]  # by the worker's number


@dataclass(slots=True)
class _Worker:
    number: int
    born: float
    ready: int  # a descriptor: one byte arrives once the worker serves


@dataclass(slots=True)
class Workers:
    """`count` workers and their parent. run() returns the exit code."""

    settings: Settings
    make_log: MakeLog
    count: int
    demo: bool
    _sockets: Sequence[socket.socket] = ()
    _lifeline: tuple[int, int] = (-1, -1)  # a pipe whose writing end only the parent holds
    _workers: dict[int, _Worker] = field(default_factory=dict)  # by process id
    _stopping: bool = False

    def run(self) -> int:
        """Serve until told to stop. Raises Problem."""
        server, state_dir = self.settings.server, self.settings.storage.state_dir
        with ExitStack() as stack:
            try:
                state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.callback(asyncio.run(StoreLock.acquire(state_dir, PARENT_WAIT_SECONDS)).release)
                inherit(state_dir, state_dir / "worker-1", keep=self.count)
                for number in range(1, self.count + 1):
                    make_own_directory(state_dir / f"worker-{number}")
                WorkerMetrics.forget(state_dir)
                listener = stack.enter_context(listen(server.host, server.port))
            except (StoreFault, CannotListenError) as error:
                raise Problem(str(error)) from None
            for number in STOPS:
                signal.signal(number, self._forward)
            self.settings = _with_admin_key(self.settings, admin_key(self.settings))
            first_key = self._prepare()
            admin = stack.enter_context(admin_socket(state_dir))
            self._sockets, self._lifeline = (listener, admin), os.pipe()
            if self._start_all():
                stack.enter_context(announced(self.settings, url_of(listener), admin))
                welcome = Welcome(self.settings, first_key, demo=self.demo)
                welcome.show(server.public_url or url_of(listener), other_urls(listener))
                (state_dir / NOTE_NAME).unlink(missing_ok=True)
                return self._supervise()
            self._supervise()
            return 0 if self._stopping and first_key is None else 1

    def _prepare(self) -> str | None:
        """Make the schema and the first key, in another process, so that the parent stays small."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _exit_after(lambda: os.write(writing, (asyncio.run(self._first_key()) or "").encode()))
        os.close(writing)
        with os.fdopen(reading, encoding="ascii") as pipe:
            key = pipe.read()
        _, status = os.waitpid(pid, 0)
        if status:
            raise Problem("the database or the first key could not be prepared; see the lines above")
        return key or None

    async def _first_key(self) -> str | None:
        app = create_app(self._settings_of(1), lock_wait_seconds=LOCK_WAIT_SECONDS)
        async with app.router.lifespan_context(app):
            return await FirstKey(app.state.clients, app.state.audit, self.settings.storage.state_dir).to_show()

    def _start_all(self) -> bool:
        """Start all workers. Returns whether all of them serve."""
        for number in range(1, self.count + 1):
            if not self._stopping:
                self._start(number)
        if self._workers and all(os.read(worker.ready, 1) for worker in list(self._workers.values())):
            return not self._stopping
        self._forward(signal.SIGTERM, None)
        return False

    def _start(self, number: int) -> None:
        reading, writing = os.pipe()
        # Signals are blocked until each side is ready: one in between would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # the parent passes a Ctrl-C on
            os.close(reading)
            os.close(self._lifeline[1])
            _exit_after(lambda: self._work(number, writing))
        os.close(writing)
        self._workers[pid] = _Worker(number, time.monotonic(), reading)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def _supervise(self) -> int:
        pause = FIRST_PAUSE_SECONDS
        while self._workers:
            pid, status = os.waitpid(-1, 0)
            worker = self._workers.pop(pid, None)
            if worker is None:
                continue
            os.close(worker.ready)
            if self._stopping:
                continue
            if time.monotonic() - worker.born > _LONG_LIFE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            code = os.waitstatus_to_exitcode(status)
            _print(f"worker {worker.number} ended ({code}) and is restarted")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            if not self._stopping:
                self._start(worker.number)
        return 0

    def _forward(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's shape
        self._stopping = True
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and is still in the list
                os.kill(pid, signal.SIGTERM)

    # -------------------------------------------------------------------------------------------- in a worker

    def _settings_of(self, number: int) -> Settings:
        storage = self.settings.storage
        mine = storage.model_copy(update={"state_dir": storage.state_dir / f"worker-{number}"})
        return self.settings.model_copy(update={"storage": mine})

    def _work(self, number: int, ready: int) -> None:
        import uvloop

        with StopSignals() as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            log = self.make_log(number)
            try:
                uvloop.run(self._serve(self._settings_of(number), log, ready, signals))
            finally:
                log.close()

    async def _serve(self, settings: Settings, log: LogOutput, ready: int, signals: StopSignals) -> None:
        async with AsyncExitStack() as stack:
            asyncio.get_running_loop().add_reader(self._lifeline[0], _orphaned, self._lifeline[0])
            if self.demo:
                settings = await with_mock(settings, stack, alone=False)
            app = create_app(settings, log, lock_wait_seconds=LOCK_WAIT_SECONDS)
            await stack.enter_async_context(app.router.lifespan_context(app))
            worker_metrics = WorkerMetrics(app.state.metrics, settings.storage.state_dir)
            worker_metrics.start()
            stack.push_async_callback(worker_metrics.close)
            app.state.render_metrics = worker_metrics.render
            if not signals.came:
                await serve_on(settings, app, self._sockets, lambda: os.write(ready, b"."))


def _with_admin_key(settings: Settings, key: str) -> Settings:
    """The settings with the admin key of the parent's state directory: each worker has its own directory."""
    return settings.model_copy(update={"server": settings.server.model_copy(update={"admin_key": Secret(key)})})


def _orphaned(lifeline: int) -> None:
    """End now without a drain, because the parent was killed and the next one waits. Calls become `interrupted`.

    If this takes too long, the kernel ends the process, as a kill does: the table of open calls and the spool have the
    rest.
    """
    loop = asyncio.get_running_loop()
    loop.remove_reader(lifeline)
    signal.setitimer(signal.ITIMER_REAL, ORPHAN_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    loop.call_later(_SECOND_SIGNAL_SECONDS, os.kill, os.getpid(), signal.SIGTERM)


def _print(words: str) -> None:
    sys.stderr.write(f"weighbridge: {words}\n")
    sys.stderr.flush()


def _exit_after(work: Callable[[], object]) -> NoReturn:
    """Do the work of a child process, and exit without the parent's clean-up."""
    code = 1
    try:
        work()
        code = 0
    except (Problem, StoreFault, UntrustedFile) as problem:
        _print(str(problem))
    except BaseException:  # noqa: BLE001 - printed like an uncaught one
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
