"""Limits the memory of all request bodies together.

    BodyHold.resize ──room──> held ──no reference to the hold is left──> given back
                   └─none──> waits ──another gives back──> held
                               └──WAIT_SECONDS──> 503

Bodies of up to SMALL_BYTES are not counted. One client may have half of the memory at most.
"""

import asyncio
from collections import defaultdict

from app.domain.errors import Overloaded, PayloadTooLarge

SMALL_BYTES = 64 * 1024
WAIT_SECONDS = 1.0


class BodyMemory:
    """One per process. `held` is the bytes that bodies hold now."""

    def __init__(self, max_bytes: int) -> None:
        self.held = 0
        self.turn = asyncio.Lock()  # for slices of long work on bodies, see run_in_slices
        self._max_bytes = max_bytes
        self._by_client: dict[str, int] = defaultdict(int)
        self._waiting: dict[asyncio.Future[None], tuple[BodyHold, int]] = {}  # and how much more each asks for

    def hold(self, client: str) -> "BodyHold":
        """A hold for one body, with no memory at first."""
        return BodyHold(self, client)

    def take(self, hold: "BodyHold", size: int) -> bool:
        """Give the hold `size` bytes more, if they are free. Raises PayloadTooLarge if they never will be."""
        if hold.size + size > self._max_bytes // 2:
            message = "The request body takes more memory than one client may have (half of server.max_buffered_bytes)."
            raise PayloadTooLarge(message)
        if any(other.client == hold.client for other, _ in self._waiting.values()):
            return False  # first come, first served
        return self._take_if_free(hold, size)

    async def wait(self, hold: "BodyHold", size: int, seconds: float) -> None:
        """Give the hold `size` bytes more as soon as they are free. Raises TimeoutError."""
        granted = asyncio.get_running_loop().create_future()
        self._waiting[granted] = (hold, size)
        try:
            async with asyncio.timeout(seconds):
                await granted
        finally:
            self._waiting.pop(granted, None)

    def give_back(self, hold: "BodyHold", size: int) -> None:
        """Take back `size` bytes, and give them to holds that wait."""
        self._give(hold, -size)
        for granted, (other, more) in list(self._waiting.items()):
            if not granted.done() and self._take_if_free(other, more):  # done: its time-out came first
                del self._waiting[granted]
                granted.set_result(None)

    def _take_if_free(self, hold: "BodyHold", size: int) -> bool:
        free = self.held + size <= self._max_bytes and self._by_client[hold.client] + size <= self._max_bytes // 2
        if free:
            self._give(hold, size)
        return free

    def _give(self, hold: "BodyHold", size: int) -> None:
        hold.size += size
        self.held += size
        self._by_client[hold.client] += size
        if not self._by_client[hold.client]:
            del self._by_client[hold.client]


class BodyHold:
    """The memory of one body. It is given back when the last reference to the hold goes."""

    __slots__ = ("_memory", "_waited", "client", "size")

    def __init__(self, memory: BodyMemory, client: str) -> None:
        self._memory = memory
        self._waited = 0.0
        self.client = client
        self.size = 0

    def resize_at_once(self, size: int) -> bool:
        """Change the hold to `size` bytes. False if there is no room now. Raises PayloadTooLarge."""
        more = (size if size > SMALL_BYTES else 0) - self.size
        if more > 0:
            return self._memory.take(self, more)
        if more:
            self._memory.give_back(self, -more)
        return True

    async def resize(self, size: int) -> None:
        """The same, but wait for room, WAIT_SECONDS in all for one body. Raises PayloadTooLarge or Overloaded."""
        if self.resize_at_once(size):
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._memory.wait(self, size - self.size, WAIT_SECONDS - self._waited)
        except TimeoutError:
            message = "This server has no memory left for request bodies. Try again in a moment."
            raise Overloaded(message) from None
        self._waited += loop.time() - began

    def __del__(self) -> None:
        if self.size:
            self._memory.give_back(self, self.size)
