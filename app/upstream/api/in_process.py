"""An httpx2 transport to an ASGI application in this process. It reads answers as they are made.

httpx2's own transport collects a whole answer first, which takes too much memory for a ledger.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx2

Message = MutableMapping[str, Any]


class InProcessTransport(httpx2.AsyncBaseTransport):
    """Runs the application in one task for each request. The application waits until its output is read."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - any ASGI application
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, once its head has come. Raises what the application raises before that."""
        answer = _Answer(await request.aread())
        answer.run(self._app, _scope(request))
        status, headers = await answer.head()
        return httpx2.Response(status, headers=headers, stream=answer)


class _Answer(httpx2.AsyncByteStream):
    """Both sides of one request: the application calls it, and the client reads it."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._sent: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=1)
        self._task: asyncio.Task[None]

    def run(self, app: Any, scope: dict[str, Any]) -> None:  # noqa: ANN401 - any ASGI application
        self._task = asyncio.create_task(self._run(app, scope))

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        message = await self._sent.get()
        if message is None:
            await self._task  # raises what went wrong
            raise httpx2.RemoteProtocolError("the application did not answer")
        return message["status"], list(message.get("headers", ()))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self._sent.get()) is not None:
            if message.get("body"):
                yield message["body"]
        await self._task

    async def aclose(self) -> None:
        """Stop the application."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # it was raised to the reader
            await self._task

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:  # noqa: ANN401 - any ASGI application
        try:
            await app(scope, self._receive, self._sent.put)
        except Exception:
            await self._sent.put(None)
            raise
        await self._sent.put(None)

    async def _receive(self) -> Message:
        if self._body is None:
            await asyncio.Event().wait()  # the client stays; aclose() ends the task
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _scope(request: httpx2.Request) -> dict[str, Any]:
    path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
    }
