"""Calls upstream's ordinary routes. Answers are bounded in size, and their shape is never trusted."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from app.domain.answer.meter import AnswerReading, BodyMeter
from app.upstream.wire.target import Target

if TYPE_CHECKING:
    from app.upstream.api.http_client import HttpClient

MOST_BYTES = 16 * 1024 * 1024

Query = Mapping[str, str | int]


class UpstreamQueryFailed(Exception):
    """Upstream did not answer the question. The message tells operators why, without keys and addresses."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status  # of the answer


@dataclass(slots=True, frozen=True)
class ApiDocument:
    """An answer. `value` is its JSON, None if it is none."""

    status: int
    value: Any

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON if it is an object, else an empty one."""
        return self.value if isinstance(self.value, dict) else {}


class UpstreamApi:
    """Fetches documents below an upstream's base URL with one key. It follows no redirect.

    Its client is made in a thread at first use, since importing httpx2 takes 0.1 s.
    """

    def __init__(self, target: Target, key: str) -> None:
        self._target = target
        self._key = key
        self._client: HttpClient | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, path: str, query: Query | None = None) -> ApiDocument:
        """GET a document, whatever its status. Raises UpstreamQueryFailed if none comes or it is too large."""
        status, body = await self.fetch_bytes(path, query)
        try:
            return ApiDocument(status, orjson.loads(body))
        except ValueError:
            return ApiDocument(status, None)

    async def fetch_bytes(self, path: str, query: Query | None = None) -> tuple[int, bytes]:
        """The same, not decoded: for documents that take long to decode."""
        client = await self._opened()
        from app.upstream.api.http_client import Unreachable

        body = bytearray()
        try:
            async with client.stream("GET", path, params=dict(query or {})) as answer:
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise UpstreamQueryFailed(f"GET {path}: the answer is too large", answer.status_code)
                return answer.status_code, bytes(body)
        except Unreachable as error:
            raise UpstreamQueryFailed(f"GET {path}: {error}") from None

    async def fetch_reading(self, path: str) -> tuple[int, AnswerReading]:
        """GET a response of any size: its status, and what a meter reads of it. Raises UpstreamQueryFailed."""
        client = await self._opened()
        from app.upstream.api.http_client import Unreachable

        meter = BodyMeter(orjson.loads)
        try:
            async with client.stream("GET", path) as answer:
                async for chunk in answer.aiter_bytes():
                    meter.feed(chunk)
                meter.end()
                return answer.status_code, meter.reading
        except Unreachable as error:
            raise UpstreamQueryFailed(f"GET {path}: {error}") from None

    async def fetch_fields(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """GET an object. Raises UpstreamQueryFailed for any answer except a 200 with an object."""
        document = await self.fetch(path, query)
        if document.status != 200:
            raise UpstreamQueryFailed(f"GET {path}: upstream answered HTTP {document.status}", document.status)
        if not document.fields:
            raise UpstreamQueryFailed(f"GET {path}: the answer is no JSON object", document.status)
        return document.fields

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _opened(self) -> "HttpClient":
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(self._open)
            return self._client

    def _open(self) -> "HttpClient":
        from app.upstream.api.http_client import upstream_client

        return upstream_client(self._target, self._key)
