"""How much memory the request bodies of all calls may take together.

    BodyHold.resize ──room──> held ──nothing refers to the hold any more──> given back
                   └─none──> waits ──given back by another──> held
                               └──WAIT_SECONDS──> 503

Bodies of up to SMALL_BYTES always have room and are not counted. One client has half of the room at most.
"""

import asyncio
from collections import defaultdict

from app.domain.errors import Overloaded, PayloadTooLarge

SMALL_BYTES = 64 * 1024
WAIT_SECONDS = 1.0


class BodyMemory:
    """One per process. `held` is what bodies hold now, in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.held = 0
        self.turn = asyncio.Lock()  # for slices of long work on bodies, see run_in_slices
        self._max_bytes = max_bytes
        self._by_client: dict[str, int] = defaultdict(int)
        self._waiting: dict[asyncio.Future[None], tuple[BodyHold, int]] = {}  # and how much more each asks for

    def hold(self, client: str) -> "BodyHold":
        """Room for one body, none at first."""
        return BodyHold(self, client)

    def take(self, hold: "BodyHold", size: int) -> bool:
        """Give the hold `size` bytes more, if they are there. Raises PayloadTooLarge when they never will be."""
        if hold.size + size > self._max_bytes // 2:
            message = "The request body takes more memory than one client may have (half of server.max_buffered_bytes)."
            raise PayloadTooLarge(message)
        if any(other.client == hold.client for other, _ in self._waiting.values()):
            return False  # first come, first served
        return self._take_if_free(hold, size)

    async def wait(self, hold: "BodyHold", size: int, seconds: float) -> None:
        """Give the hold `size` bytes more when others have given them back. Raises TimeoutError."""
        granted = asyncio.get_running_loop().create_future()
        self._waiting[granted] = (hold, size)
        try:
            async with asyncio.timeout(seconds):
                await granted
        finally:
            self._waiting.pop(granted, None)

    def give_back(self, hold: "BodyHold", size: int) -> None:
        """The hold needs so many bytes less: others may have them."""
        self._give(hold, -size)
        for granted, (other, more) in list(self._waiting.items()):
            if not granted.done() and self._take_if_free(other, more):  # it is, when it is too late and not told yet
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
    """The room of one body. Whoever holds the body holds this; with the last of them it is given back."""

    __slots__ = ("_memory", "_waited", "client", "size")

    def __init__(self, memory: BodyMemory, client: str) -> None:
        self._memory = memory
        self._waited = 0.0
        self.client = client
        self.size = 0

    def resize_at_once(self, size: int) -> bool:
        """Have room for a body of `size` bytes, if there is any now. Raises PayloadTooLarge."""
        more = (size if size > SMALL_BYTES else 0) - self.size
        if more > 0:
            return self._memory.take(self, more)
        if more:
            self._memory.give_back(self, -more)
        return True

    async def resize(self, size: int) -> None:
        """The same, waiting for it, WAIT_SECONDS in all for one body. Raises Overloaded, too."""
        if self.resize_at_once(size):
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._memory.wait(self, size - self.size, WAIT_SECONDS - self._waited)
        except TimeoutError:
            message = "This server holds as many request bodies as it may. Try again in a moment."
            raise Overloaded(message) from None
        self._waited += loop.time() - began

    def __del__(self) -> None:
        if self.size:
            self._memory.give_back(self, self.size)
