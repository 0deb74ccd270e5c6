"""What was taken for one call, and messages that the server has yet to get."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from app.gateway.limiter import LimitRequest, RateReading
from app.limits.redis.scripts import Script

Ending = Callable[["RedisGrant", int, int, bool], None]
"""The grant, the tokens and the nano-dollars that it came to, and whether it never went upstream."""


class Undelivered(Protocol):
    """A message that the server must get, perhaps more than once. `failures`: how often its script broke."""

    failures: int

    def command(self) -> bytes:
        """The command to send now."""


class RedisGrant:
    """The Grant of this form. `process` is the name under which the server has it.

    `doubtful`: it was given another name, and the reply is missing.
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
        if not self.over:
            self.over = True
            self._end(self, tokens, cost_nanousd, False)

    def give_back(self) -> None:
        if not self.over:
            self.over = True
            self._end(self, 0, 0, True)


class UnlimitedGrant:
    """The Grant of a call without limits, or whose limits could not be checked and are open then. Nothing was taken."""

    __slots__ = ("cost_nanousd", "readings", "tokens")

    def __init__(self, ask: LimitRequest) -> None:
        self.readings: Sequence[RateReading] = ()
        self.tokens, self.cost_nanousd = ask.tokens, ask.cost_nanousd

    def settle(self, tokens: int, cost_nanousd: int) -> None: ...
    def give_back(self) -> None: ...


class CallEnd:
    """The end of a call that came to so many tokens and nano-dollars. `accounts` (JSON) count it."""

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
        """The call of settle.lua."""
        grant = self.grant
        ago_ms = int((time.monotonic() - self._ended) * 1000)
        back, began = int(self._back), grant.ask.at_us
        arguments = (*self._came_to, back, began, ago_ms, self._accounts, grant.ask.request_id)
        return self._script.command(grant.process, grant.number, *arguments)


class Command:
    """A message that does not depend on when it is sent."""

    __slots__ = ("_command", "failures")

    def __init__(self, command: bytes) -> None:
        self.failures = 0
        self._command = command

    def command(self) -> bytes:
        return self._command
