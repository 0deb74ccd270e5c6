"""A listener that writes down what it hears, and what of it breaks the port's contract."""

import asyncio
from typing import TYPE_CHECKING

from app.domain.errors import UpstreamFault
from app.domain.headers import Headers
from tests.upstream.raw_server import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.gateway.ports import UpstreamCall


class Hearing:
    """Implements UpstreamListener. `react` is called after each word, with its name."""

    def __init__(self, react: "Callable[[str, Hearing], None] | None" = None) -> None:
        self._react = react
        self._over = asyncio.Event()
        self._words: list[str] = []
        self._cancelled = False
        self.call: UpstreamCall | None = None
        self.status: int | None = None
        self.headers: Headers = []
        self.chunks: list[bytes] = []
        self.fault: UpstreamFault | None = None
        self.retry_count: int | None = None
        self.wrong: list[str] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def size(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)

    @property
    def ended(self) -> bool:
        return "end" in self._words

    @property
    def over(self) -> bool:
        return self._over.is_set()

    @property
    def silent(self) -> bool:
        return not self._words

    def cancel(self) -> None:
        """Cancel the call; from here on every word is a wrong one."""
        assert self.call is not None
        self._cancelled = True
        self.call.cancel()

    def head(self, status: int, headers: Headers, retry_count: int) -> None:
        self.status, self.headers, self.retry_count = status, headers, retry_count
        self._hear("head", allowed=not self._words)

    def data(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self._hear("data", allowed=bool(chunk) and self._words[:1] == ["head"])

    def end(self) -> None:
        self._over.set()
        self._hear("end", allowed=self._words[:1] == ["head"])

    def broken(self, fault: UpstreamFault, retry_count: int) -> None:
        self.fault, self.retry_count = fault, retry_count
        self._over.set()
        self._hear("broken", allowed=True)

    async def finished(self) -> None:
        """Until end or broken; fails when neither comes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._over.wait()

    def _hear(self, word: str, *, allowed: bool) -> None:
        if not allowed or self.call is None or self._cancelled or {"end", "broken"} & set(self._words):
            self.wrong.append(f"{word} after {self._words}, cancelled: {self._cancelled}, in hand: {bool(self.call)}")
        self._words.append(word)
        if self._react is not None:
            self._react(word, self)
