"""Where finished log lines leave the program.

A collector that stops reading its pipe blocks whoever writes to it. That must be neither the event loop nor the
ledger's writer, so one thread of the sink's own does the writing and everyone else only queues.
"""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, RLock, Thread
from typing import TextIO

MOST_PENDING = 4 * 1024 * 1024
"""Characters that may wait for a slow collector; beyond it lines are dropped and counted, not held in memory."""


class LogSink:
    """Takes whole lines from any thread, writes them in order, never blocks in write(), never raises."""

    def __init__(self, stream: TextIO, *, most_pending: int = MOST_PENDING) -> None:
        self.dropped = 0  # calls of write() whose text was lost
        self._stream = stream
        self._most_pending = most_pending
        self._pending = 0
        self._queue: SimpleQueue[str | Event | None] = SimpleQueue()
        # Reentrant: a finaliser may run inside the guarded lines and log by itself.
        self._lock = RLock()
        self._thread: Thread | None = None
        self._notice: Callable[[int], str] | None = None
        self._told = 0

    def announce_losses(self, notice: Callable[[int], str]) -> None:
        """Once lines get through again, write `notice(number of lost writes)` after them."""
        self._notice = notice

    def write(self, text: str) -> None:
        """Queue complete lines, each with its newline."""
        with self._lock:
            if self._pending > self._most_pending:
                self.dropped += 1
                return
            self._pending += len(text)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="log-sink", daemon=True)
                self._thread.start()
        self._queue.put(text)

    def flush(self, timeout_seconds: float = 2.0) -> bool:
        """Wait until everything queued so far is written; False when that took too long."""
        if self._thread is None:
            return True
        written = Event()
        self._queue.put(written)
        return written.wait(timeout_seconds)

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Write what is queued and let the thread go. A later write begins anew."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout_seconds)

    def _run(self) -> None:
        while self._drain(self._queue.get()):
            pass

    def _drain(self, item: str | Event | None) -> bool:
        """Write all that waits with one call, then wake those who flush. False at the end."""
        texts: list[str] = []
        flushed: list[Event] = []
        try:
            while item is not None:
                if isinstance(item, str):
                    texts.append(item)
                else:
                    flushed.append(item)
                item = self._queue.get_nowait()
        except Empty:
            pass
        if texts:
            self._put_out(texts)
        for event in flushed:
            event.set()
        return item is not None

    def _put_out(self, texts: list[str]) -> None:
        lines = "".join(texts)
        lost = self.dropped - self._told
        try:
            self._stream.write(lines + self._notice(lost) if lost and self._notice else lines)
            self._stream.flush()
            self._told += lost
        except (OSError, ValueError):  # the reader is gone or the stream closed: there is nowhere left to say so
            with self._lock:
                self.dropped += len(texts)
        finally:
            with self._lock:
                self._pending -= len(lines)
