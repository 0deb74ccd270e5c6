"""POST /responses: an answer as a stream or as one JSON document, and the faults of its HTTP."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse

from app.mock.answer import MockAnswer
from app.mock.call import item_text
from app.mock.delivery import Delivery
from app.mock.dialects import Dialect
from app.mock.event_stream import event_stream
from app.mock.faults import FaultSet
from app.mock.framing import Frame, Framing, encode
from app.mock.headers import Headers, content_type, dialect_headers, odd_headers
from app.mock.raw_responses import Act, Lie, flanked, instead
from app.mock.reception import Reception
from app.mock.refusals import MockRefusal
from app.mock.script import plan
from app.mock.state import MockState
from app.mock.stored import StoredResponse
from app.mock.wire import MockWire, left

CAUGHT_PATH = "/_mock/caught"

_FAILED_PAGE = "<html><head><title>500</title></head><body><h1>Internal Server Error</h1></body></html>"
_LENGTH_FAULTS = ("short-length", "long-length", "duplicate-length")


class Responses:
    """The route that answers."""

    def __init__(self, state: MockState) -> None:
        self._state = state
        self._reception = Reception(state)

    async def create(self, request: Request) -> Response:
        """Answer a call."""
        call, raw = await self._reception.take(request)
        faults = self._state.faults(request.headers, call.body)
        if substitute := self._substitute(call.dialect, faults):
            return substitute
        rng, options, books = self._state.rng(raw), self._state.options, self._state.books
        answer = self._state.generator.generate(call, faults, rng)
        script = plan(answer, faults)
        entry = books.open(call, answer.ids, path=request.url.path, full=script.usage, faults=",".join(faults))
        delivery = Delivery(call, entry, script, books, MockWire(request.scope), faults, options.pace, rng)
        if call.stored and "big-terminal" not in faults:
            self._keep(answer, delivery)
        if call.background:
            seconds = options.pace.planned(answer.usage.output_tokens)
            asyncio.get_running_loop().call_later(seconds, self._finish, delivery)
        return await self._respond(request, answer, delivery)

    def _substitute(self, dialect: Dialect, faults: FaultSet) -> Response | None:
        """What comes instead of an answer; nothing of it is billed."""
        if "status" in faults:
            self._state.books.stats.refused += 1
            refusal = MockRefusal(int(faults.value("status")))
            wait = {"retry-after": str(int(faults.value("retry-after")))} if "retry-after" in faults else None
            return JSONResponse(refusal.body(dialect), refusal.status, headers=wait)
        if "500-html" in faults:
            self._state.books.stats.refused += 1
            return HTMLResponse(_FAILED_PAGE, 500)
        if "redirect" in faults:
            self._state.books.stats.refused += 1
            return RedirectResponse(CAUGHT_PATH)
        return instead(faults)

    def _keep(self, answer: MockAnswer, delivery: Delivery) -> None:
        """For later; all the events only where they can be streamed again."""
        call, script = answer.call, delivery.script
        said = "\n".join(item_text(item.json()) for item in answer.items)
        if not (call.background and call.stream):
            script = replace(script, events=[event for event in script.events if event.terminal] or script.events[-1:])
        self._state.stored.add(
            StoredResponse(
                call=call,
                script=script,
                entry=delivery.entry,
                opening=answer.opening("in_progress"),
                history=f"{call.prompt}\n{said}",
            )
        )

    def _finish(self, delivery: Delivery) -> None:
        self._state.books.close(delivery.entry, status=delivery.script.status, whole=True)

    async def _respond(self, request: Request, answer: MockAnswer, delivery: Delivery) -> Response:
        call, faults = answer.call, delivery.faults
        if call.background and not call.stream:
            queued = call.dialect.payload({"response": answer.opening("queued")}) or {}
            return Response(encode(queued["response"]), media_type="application/json")
        framing = Framing(call, faults)
        frames = framing.stream(delivery.script) if call.stream else framing.document(delivery.script)
        headers = self._headers(answer, delivery)
        seconds = faults.value("slow-first-byte")
        if not call.stream:
            seconds += self._state.options.pace.planned(answer.usage.output_tokens)
        if seconds and not await _stays(request, seconds):
            delivery.close()
            return Act(MockWire.close)
        if faults.first(*_LENGTH_FAULTS):
            return await _lying(delivery, frames, headers)
        if call.stream:
            return flanked(event_stream(delivery.chunks(frames, framing.comment()), headers), faults)
        return flanked(_document(delivery, frames, headers), faults)

    def _headers(self, answer: MockAnswer, delivery: Delivery) -> Headers:
        call, faults = answer.call, delivery.faults
        kind = [(b"content-type", content_type(call.dialect, stream=call.stream))]
        named = dialect_headers(call.dialect, answer.ids.generation, delivery.rng)
        return ([] if "headerless" in faults else kind) + named + odd_headers(faults)


async def _stays(request: Request, seconds: float) -> bool:
    """Whether the caller is still there after so long."""
    try:
        async with asyncio.timeout(seconds):
            await left(request.receive)
    except TimeoutError:
        return True
    return False


def _document(delivery: Delivery, frames: Iterable[Frame], headers: Headers) -> Response:
    frames = list(frames)
    framed = [] if {"gzip", "truncate-clean"} & set(delivery.faults) else [_length(sum(len(f.data) for f in frames))]
    response = StreamingResponse(delivery.chunks(frames))
    response.raw_headers = headers + framed
    return response


async def _lying(delivery: Delivery, frames: Iterable[Frame], headers: Headers) -> Response:
    """The whole body at once, under a length that is wrong."""
    body = b"".join([chunk async for chunk in delivery.chunks(frames)])
    if "duplicate-length" in delivery.faults:
        response = Response(body)
        response.raw_headers = [*headers, _length(len(body)), _length(len(body) + 1)]
        return response
    return Lie(body, len(body) // 2 if "short-length" in delivery.faults else len(body) + 100, headers)


def _length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", str(size).encode()
