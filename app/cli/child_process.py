"""Runs a command as a child: passes signals on to it, and ends as it ends.

    signal from another process ──> passed on          signal from the terminal ──> the command has it already
    the command ends ──> its exit code, or the signal that killed it

This process blocks the signals and waits for them, so that none is lost and none ends it before the command. Ctrl-Z
stops both, since they share a process group.
"""

import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

PASSED_ON = frozenset((signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these signals; the command gets their defaults back."""


class ChildProcess:
    """One command. Make this before anything that must be undone: from then on no signal ends this process."""

    def __init__(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)  # an ignored signal may never be delivered
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})

    def run(self, path: str, words: list[str], environ: Mapping[str, str]) -> int:
        """Run the program at `path` to its end and return its wait status. Raises OSError if it cannot start."""
        pid = os.posix_spawn(path, words, environ, setsigmask=self._mask, setsigdef=_RESTORED)
        while True:
            number, passed_on = _next_signal()
            if number == signal.SIGCHLD:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    return status
            elif passed_on:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def _next_signal() -> tuple[int, bool]:
    """The next signal, and whether to pass it on: the command gets signals of the terminal by itself."""
    awaited = {*PASSED_ON, signal.SIGCHLD}
    if sys.platform == "linux":
        info = signal.sigwaitinfo(awaited)
        return info.si_signo, info.si_code <= 0  # above 0: sent by the kernel
    number = signal.sigwait(awaited)
    return number, number not in {signal.SIGINT, signal.SIGQUIT} or not _in_foreground()


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def end_as(status: int) -> int:
    """The exit code of a wait status. If a signal killed the command, this process ends by the same signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # this process's memory holds keys
        sys.stdout.flush()
        sys.stderr.flush()
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        return 128 + number  # if the signal did not end us
    return os.waitstatus_to_exitcode(status)
