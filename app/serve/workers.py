"""Several worker processes behind one port, and the parent that starts them, starts them again and stops them.

    parent   listens, holds the lock of the state directory, prints the first words; has no loop and no threads
      ├── worker 1   takes connections from the same two sockets; its own state is in worker-1/
      ├── worker 2   ...
      └── ...

A worker that ends is replaced. A signal to the parent goes to all; when the parent is killed, they end within a second.
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
"""So long a worker waits for one of an earlier parent that is still at its last streams."""
ORPHAN_SECONDS = 0.9
"""So long a worker may take to end, once its parent is killed."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
_LONG_LIFE_SECONDS = 30.0
_SECOND_SIGNAL_SECONDS = 0.05

MakeLog = Callable[[int], LogOutput]  # for the worker of this number


@dataclass(slots=True)
class _Worker:
    number: int
    born: float
    ready: int  # a descriptor: one byte comes once it serves


@dataclass(slots=True)
class Workers:
    """`count` of them. run() returns the exit code."""

    settings: Settings
    make_log: MakeLog
    count: int
    demo: bool
    _sockets: Sequence[socket.socket] = ()
    _lifeline: tuple[int, int] = (-1, -1)  # a pipe whose end nobody but the parent holds open
    _living: dict[int, _Worker] = field(default_factory=dict)  # by process id
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
                return self._look_after()
            self._look_after()
            return 0 if self._stopping and first_key is None else 1

    def _prepare(self) -> str | None:
        """In a process of its own, so that nothing of it is left in the parent: the schema, and the first key."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _leave(lambda: os.write(writing, (asyncio.run(self._first_key()) or "").encode()))
        os.close(writing)
        with os.fdopen(reading, encoding="ascii") as pipe:
            key = pipe.read()
        _, status = os.waitpid(pid, 0)
        if status:
            raise Problem("the server could not be prepared")
        return key or None

    async def _first_key(self) -> str | None:
        app = create_app(self._settings_of(1), lock_wait_seconds=LOCK_WAIT_SECONDS)
        async with app.router.lifespan_context(app):
            return await FirstKey(app.state.clients, app.state.audit, self.settings.storage.state_dir).to_show()

    def _start_all(self) -> bool:
        """Whether all of them have come to serve."""
        for number in range(1, self.count + 1):
            if not self._stopping:
                self._start(number)
        if self._living and all(os.read(worker.ready, 1) for worker in list(self._living.values())):
            return not self._stopping
        self._forward(signal.SIGTERM, None)
        return False

    def _start(self, number: int) -> None:
        reading, writing = os.pipe()
        # Held back until each side is ready for it: a signal in between would be lost, and its worker never told.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # a Ctrl-C is the parent's to pass on
            os.close(reading)
            os.close(self._lifeline[1])
            _leave(lambda: self._work(number, writing))
        os.close(writing)
        self._living[pid] = _Worker(number, time.monotonic(), reading)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def _look_after(self) -> int:
        pause = FIRST_PAUSE_SECONDS
        while self._living:
            pid, status = os.waitpid(-1, 0)
            worker = self._living.pop(pid, None)
            if worker is None:
                continue
            os.close(worker.ready)
            if self._stopping:
                continue
            if time.monotonic() - worker.born > _LONG_LIFE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            code = os.waitstatus_to_exitcode(status)
            _tell(f"worker {worker.number} ended ({code}) and is started again")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            if not self._stopping:
                self._start(worker.number)
        return 0

    def _forward(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's shape
        self._stopping = True
        for pid in self._living:
            with contextlib.suppress(ProcessLookupError):  # it was waited for, and is not taken from the list yet
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
            siblings = WorkerMetrics(app.state.metrics, settings.storage.state_dir)
            siblings.start()
            stack.push_async_callback(siblings.close)
            app.state.render_metrics = siblings.render
            if not signals.came:
                await serve_on(settings, app, self._sockets, lambda: os.write(ready, b"."))


def _with_admin_key(settings: Settings, key: str) -> Settings:
    """The key of the whole state directory, for workers that have a directory of their own."""
    return settings.model_copy(update={"server": settings.server.model_copy(update={"admin_key": Secret(key)})})


def _orphaned(lifeline: int) -> None:
    """The parent was killed: end now, without a drain, for the next one waits. Calls under way become `interrupted`.

    What is not done in time is cut off by the kernel, as by a kill: the table of open calls and the spool tell of it.
    """
    loop = asyncio.get_running_loop()
    loop.remove_reader(lifeline)
    signal.setitimer(signal.ITIMER_REAL, ORPHAN_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    loop.call_later(_SECOND_SIGNAL_SECONDS, os.kill, os.getpid(), signal.SIGTERM)


def _tell(words: str) -> None:
    sys.stderr.write(f"weighbridge: {words}\n")
    sys.stderr.flush()


def _leave(work: Callable[[], object]) -> NoReturn:
    """Do the work of a child, and end without what the parent still has to do."""
    code = 1
    try:
        work()
        code = 0
    except (Problem, StoreFault, UntrustedFile) as problem:
        _tell(str(problem))
    except BaseException:  # noqa: BLE001 - told as an uncaught one would be
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
