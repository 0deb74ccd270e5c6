"""What was taken for one call, and what the server has yet to hear of."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from app.gateway.limiter import LimitRequest, RateReading
from app.limits.redis.scripts import Script

Ending = Callable[["RedisGrant", int, int, bool], None]
"""The grant, the tokens and the nano-dollars that it came to, and whether it never went upstream."""


class Undelivered(Protocol):
    """Something that the server must hear of, however often it is told. `failures`: how often its script broke."""

    failures: int

    def command(self) -> bytes:
        """As it is told now."""


class RedisGrant:
    """A Grant; see app.gateway.limiter. `process` is the name under which the server has it.

    `doubtful`: it was to get another name, and nobody knows whether it has.
    """

    __slots__ = ("_end", "ask", "cost_nanousd", "doubtful", "number", "over", "process", "readings", "tokens")

    def __init__(self, ask: LimitRequest, process: str, number: int, end: "Ending") -> None:
        self.ask = ask
        self.process = process
        self.number = number
        self.readings: Sequence[RateReading] = ()
        self.tokens, self.cost_nanousd = ask.tokens, ask.cost_nanousd
        self.over = self.doubtful = False
        self._end = end

    def settle(self, tokens: int, cost_nanousd: int) -> None:
        """As the port says. A second time changes nothing."""
        if not self.over:
            self.over = True
            self._end(self, tokens, cost_nanousd, False)

    def give_back(self) -> None:
        """As the port says."""
        if not self.over:
            self.over = True
            self._end(self, 0, 0, True)


class LooseGrant:
    """For a call that nothing was taken for: its limits could not be judged, and are open then."""

    __slots__ = ("cost_nanousd", "readings", "tokens")

    def __init__(self, ask: LimitRequest) -> None:
        self.readings: Sequence[RateReading] = ()
        self.tokens, self.cost_nanousd = ask.tokens, ask.cost_nanousd

    def settle(self, tokens: int, cost_nanousd: int) -> None:
        """Nothing comes back."""

    def give_back(self) -> None:
        """Nothing comes back."""


class End:
    """The end of a call, which came to so many tokens and nano-dollars. `accounts` may count it, as JSON."""

    __slots__ = ("_accounts", "_back", "_came_to", "_ended", "_script", "failures", "grant")

    def __init__(
        self, script: Script, grant: RedisGrant, came_to: tuple[int, int], accounts: bytes, *, back: bool
    ) -> None:
        self.grant = grant
        self.failures = 0
        self._accounts = accounts
        self._script = script
        self._came_to, self._back = came_to, back
        self._ended = time.monotonic()

    def command(self) -> bytes:
        """As settle.lua reads it."""
        grant = self.grant
        ago_ms = int((time.monotonic() - self._ended) * 1000)
        back, began = int(self._back), grant.ask.at_us
        told = (*self._came_to, back, began, ago_ms, self._accounts, grant.ask.request_id)
        return self._script.command(grant.process, grant.number, *told)


class Command:
    """One that is ready made, and says the same however late."""

    __slots__ = ("_command", "failures")

    def __init__(self, command: bytes) -> None:
        self.failures = 0
        self._command = command

    def command(self) -> bytes:
        """The same each time."""
        return self._command
