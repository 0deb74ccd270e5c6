"""The mock upstream without a network: its own answers and its own books, handed over when a test says so."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson

from app.domain.records import Record
from app.gateway.ports import UpstreamUsage
from app.mock.account import _generation
from app.mock.booked_call import BookedCall
from app.mock.call import MockCall, pick_dialect
from app.mock.delivery import Delivery
from app.mock.framing import Framing
from app.mock.headers import content_type, dialect_headers
from app.mock.options import MockOptions
from app.mock.pace import Pace
from app.mock.script import plan
from app.mock.state import MockState
from app.mock.wire import MockWire
from app.upstream.api.client import ApiDocument
from app.upstream.api.usage_lookup import _entry


class Broken(Exception):
    """A fault has cut the connection."""


class _Wire(MockWire):
    def __init__(self) -> None:
        super().__init__({"type": "http"})

    def close(self) -> None:
        raise Broken

    reset = close


class MockAnswer:
    """One answer on its way. What was taken counts as sent: the mock is always a frame ahead of its caller."""

    def __init__(self, delivery: Delivery, chunks: AsyncIterator[bytes], headers: list[tuple[bytes, bytes]]) -> None:
        self.entry = delivery.entry
        self.headers = headers
        self.over = False
        self._chunks = chunks
        self._next: bytes | Exception | None = b""

    async def take(self) -> bytes | None:
        """The next bytes, None at the end. Raises Broken."""
        taken = self._next
        if isinstance(taken, bytes):
            try:
                self._next = await anext(self._chunks)
            except (Broken, StopAsyncIteration) as error:
                self._next = error if isinstance(error, Broken) else None
            return taken
        self.over = True
        if taken is not None:
            raise taken
        return None

    async def close(self) -> None:
        """The caller has hung up."""
        self.over = True
        await self._chunks.aclose()  # type: ignore[attr-defined]  # a generator


class MockUpstream:
    """Answers like `weighbridge mock-upstream`, and bills like it. `clock` is seconds since 1970."""

    def __init__(self, clock: Any) -> None:  # noqa: ANN401 - as MockOptions has it
        options = MockOptions(pace=Pace(0, 0), seed=1, clock=clock)
        self._state = MockState(options)

    def answer(self, body: bytes) -> MockAnswer:
        call_body: dict[str, Any] = json.loads(body)
        call = MockCall(call_body, pick_dialect({}, call_body, "openrouter"))
        state, rng = self._state, self._state.rng(body)
        faults = state.faults({}, call_body)
        made = state.generator.generate(call, faults, rng)
        course = plan(made, faults)
        entry = state.books.open(call, made.ids, path="/responses", full=course.usage)
        delivery = Delivery(call, entry, course, state.books, _Wire(), faults, state.options.pace, rng)
        framing = Framing(call, faults)
        frames = framing.stream(course) if call.stream else framing.document(course)
        headers = [(b"content-type", content_type(call.dialect, stream=call.stream))]
        headers += dialect_headers(call.dialect, made.ids.generation, rng)
        return MockAnswer(delivery, delivery.chunks(frames), headers)

    @property
    def entries(self) -> dict[str, BookedCall]:
        """What it would bill, by generation id."""
        return {entry.generation_id: entry for entry in self._state.books}

    async def look_up(self, record: Record) -> UpstreamUsage | None:
        """The gateway's Books port, by way of the JSON that OpenRouter gives."""
        await asyncio.sleep(0)
        entry = self.entries.get(record.generation_id or "")
        if entry is None or entry.finished_at is None:
            return None
        return _entry(ApiDocument(200, orjson.loads(json.dumps({"data": _generation(entry)}))))
