"""Sends an answer frame by frame at the pace of a model, until its end or until a fault ends it."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from app.mock.booked_call import BookedCall
from app.mock.books import MockBooks
from app.mock.call import MockCall
from app.mock.faults import FaultSet, MockFault
from app.mock.framing import Frame
from app.mock.pace import Pace
from app.mock.script import ScenarioScript
from app.mock.wire import MockWire

KEEP_ALIVE_SECONDS = 2.0
"""A dialect that has a comment for it breaks silences that are longer."""

_GZIP = 31  # zlib's number for a gzip header
_BREAKS = ("truncate", "close", "reset")


@dataclass(slots=True)
class Delivery:
    """One answer that is being sent. `chunks()` is its body. The call's record is ended once, on every exit."""

    call: MockCall
    entry: BookedCall
    script: ScenarioScript
    books: MockBooks
    wire: MockWire
    faults: FaultSet
    pace: Pace
    rng: Random
    _whole: bool = field(default=False, init=False)
    _cut: bool = field(default=False, init=False)

    async def chunks(self, frames: Iterable[Frame], comment: bytes = b"") -> AsyncGenerator[bytes, None]:
        """The body's bytes. Where a fault breaks the connection this waits until it is cancelled for that."""
        zipped = zlib.compressobj(wbits=_GZIP) if "gzip" in self.faults else None
        self.books.stats.open_streams += self.call.stream
        clock = asyncio.get_running_loop().time
        due = clock()
        try:
            if await self._mishap(0):
                return
            for frame in frames:
                due = max(due, clock()) + self._seconds(frame)
                for nap, speaks in _naps(due - clock(), breaks=bool(comment)):
                    await asyncio.sleep(nap)
                    if speaks:
                        yield _packed(comment, zipped)
                for piece in self._pieces(_packed(self._kept(frame), zipped)):
                    yield piece
                if await self._sent(frame):
                    return
            if zipped is not None:
                yield zipped.flush()
            self._whole = True
        finally:
            self.books.stats.open_streams -= self.call.stream
            self.close()

    def close(self) -> None:
        """End the call's record by how much was sent. A background call goes on without its caller."""
        if self.entry.terminal_sent or self._whole:
            self.books.close(self.entry, status=self.script.status, whole=True)
        elif not self.call.background:
            # A stream that nobody reads is stopped; an answer sent in one piece is made, and billed, to its end.
            status, whole = "cut" if self._cut else "aborted", not self.call.stream
            self.books.close(self.entry, status=status, whole=whole)

    def _seconds(self, frame: Frame) -> float:
        seconds = self.pace.tokens(frame.tokens, self.rng) if frame.tokens else 0.0
        return seconds + (self.pace.first_token(self.rng) if frame.first_output else 0.0)

    def _kept(self, frame: Frame) -> bytes:
        halved = frame.terminal and "cut-inside-terminal" in self.faults
        return frame.data[: len(frame.data) // 2] if halved else frame.data

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = int(self.faults.value("split")) or max(1, len(data))
        for start in range(0, len(data), size):
            yield data[start : start + size]

    async def _sent(self, frame: Frame) -> bool:
        """Note that the frame is out; whether the answer ends here."""
        if self.wire.gone:
            return True
        self.entry.tokens += frame.tokens
        self.entry.reported = self.entry.reported or (frame.terminal and self.script.reported)
        if frame.terminal and "cut-inside-terminal" in self.faults:
            self.entry.reported = False
            await self._break(self.wire.close)
        if frame.number == 0:
            return False
        self.entry.events += 1
        self.entry.terminal_sent = self.entry.terminal_sent or frame.terminal
        return await self._mishap(frame.number)

    async def _mishap(self, number: int) -> bool:
        """Run the faults that are due after so many events. Returns whether the answer ends here."""
        for name in _BREAKS:
            if self._is_due(self.faults.get(name), number):
                await self._break(self.wire.reset if name == "reset" else self.wire.close)
        stall = self.faults.get("stall")
        if stall is not None and self._is_due(stall, number):
            await (asyncio.sleep(stall.value) if stall.value is not None else _forever())
        self._cut = self._is_due(self.faults.get("truncate-clean"), number)
        return self._cut

    def _is_due(self, fault: MockFault | None, number: int) -> bool:
        if fault is None:
            return False
        return number == (fault.event if self.call.stream else min(fault.event, 1))

    async def _break(self, how: Callable[[], None]) -> None:
        self._cut = True
        how()
        await _forever()


def _naps(seconds: float, *, breaks: bool) -> Iterator[tuple[float, bool]]:
    """The wait in parts, and whether a comment follows each. At least one part, so that other tasks get their turn."""
    while breaks and seconds > KEEP_ALIVE_SECONDS:
        yield KEEP_ALIVE_SECONDS, True
        seconds -= KEEP_ALIVE_SECONDS
    yield max(0.0, seconds), False


def _packed(data: bytes, zipped: "zlib._Compress | None") -> bytes:
    return data if zipped is None else zipped.compress(data) + zipped.flush(zlib.Z_SYNC_FLUSH)


async def _forever() -> None:
    await asyncio.Event().wait()
