"""Whether upstream accepts the server's key, by the answers to calls and by a free check.

    accepted ──a call gets 401──> refused ──a call succeeds──> accepted
                                     └──a check succeeds, every 30 s──> unsure ──a call succeeds──> accepted
                                                                           └──a call gets 401──> refused, no checks

A check that a call contradicts is not repeated: some upstreams answer their free routes without any key.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

CHECK_SECONDS = 30.0

_log = logging.getLogger(__name__)


class KeyCheck(Protocol):
    """Asks upstream about the server's key, free of charge."""

    async def takes_key(self) -> bool | None:
        """Whether upstream accepts the key; None if that is unknown. Never raises."""


class KeyHealth:
    """One per upstream key. `problem` is a sentence for operators while upstream refuses the key, else None."""

    def __init__(self, check: KeyCheck | None = None, check_seconds: float = CHECK_SECONDS) -> None:
        self._check = check
        self._check_seconds = check_seconds
        self._checking: asyncio.Task[None] | None = None
        self.problem: str | None = None
        self.unsure = False  # note() needs the status of every answer

    def note(self, status: int) -> None:
        """Note the status of an answer: each 401, and every answer while `unsure`."""
        if status == 401 and self.problem is None:
            self._refused()
        elif 200 <= status < 300:
            self.unsure = False
            self._clear()

    async def close(self) -> None:
        """Stop the checks."""
        if self._checking is not None:
            self._checking.cancel()
            with suppress(asyncio.CancelledError):
                await self._checking

    def _refused(self) -> None:
        contradicts_a_check = self.unsure
        self.problem = "upstream does not accept the server's key (HTTP 401)"
        self.unsure = True
        _log.error("%s: calls get 502 upstream_auth until the key is replaced or accepted again", self.problem)
        idle = self._checking is None or self._checking.done()
        if self._check is not None and idle and not contradicts_a_check:
            self._checking = asyncio.get_running_loop().create_task(self._watch(self._check))

    def _clear(self) -> None:
        if self.problem is not None:
            self.problem = None
            _log.info("upstream accepts the server's key again")

    async def _watch(self, check: KeyCheck) -> None:
        while True:
            await asyncio.sleep(self._check_seconds)
            taken = self.problem is None or await check.takes_key()
            if taken:
                self._clear()
                return
