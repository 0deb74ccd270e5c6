"""A way to a server that counts who goes through: each request with the moment it came, whatever the answer."""

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"(?:^|\n)POST \S*/responses HTTP/1\.1\r\n")
_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ")


class Turnstile:
    """One way of its own for one client. `asked` are the monotonic seconds at which it asked.

    `on_refusal` is called, in a thread of the turnstiles, when the first answer that is no 200 has passed.
    """

    def __init__(self, target: str, on_refusal: Callable[[], None] | None = None) -> None:
        self.asked: list[float] = []
        self.statuses: list[int] = []
        self.port = 0
        self._target = urlsplit(target)
        self._on_refusal = on_refusal

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sent(self) -> int:
        return len(self.asked)

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.asked, self.asked[1:], strict=False)]

    async def open(self) -> asyncio.Server:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0, backlog=64)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _pass(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far, to_far = await asyncio.open_connection(self._target.hostname, self._target.port)
            back = asyncio.create_task(self._pump(far, to_near, self._answer))
            await self._pump(near, to_far, self._request)
            await back

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], None]
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                look(chunk)
                writer.write(chunk)
                await writer.drain()
        writer.close()

    def _request(self, chunk: bytes) -> None:
        """A client writes the head of a request in one piece, and JSON has no line that looks like one."""
        self.asked += [time.monotonic()] * len(_REQUEST.findall(chunk))

    def _answer(self, chunk: bytes) -> None:
        found = _STATUS.match(chunk)
        if found is None:
            return
        self.statuses.append(int(found[1]))
        if self.statuses[-1] != 200 and self._on_refusal is not None:
            on_refusal, self._on_refusal = self._on_refusal, None
            asyncio.get_running_loop().run_in_executor(None, on_refusal)


class Turnstiles:
    """As many as are asked for, all on one thread."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def to(self, target: str, on_refusal: Callable[[], None] | None = None) -> Turnstile:
        """A new one, open when this returns."""
        turnstile = Turnstile(target, on_refusal)
        self._servers.append(asyncio.run_coroutine_threadsafe(turnstile.open(), self._loop).result())
        return turnstile

    async def _break(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._break(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
