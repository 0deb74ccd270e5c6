"""What can be done with a stored response: read, replay, delete, cancel, list its input."""

from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.mock.event_stream import event_stream
from app.mock.faults import FaultSet
from app.mock.framing import Framing, encode
from app.mock.headers import content_type
from app.mock.refusals import MockRefusal
from app.mock.script import ScenarioScript
from app.mock.state import MockState
from app.mock.stored import Json, StoredResponse

_DEFAULT_LIMIT = 20
_MOST_LIMIT = 100


class Lifecycle:
    """The routes below /responses/{response_id}."""

    def __init__(self, state: MockState) -> None:
        self._state = state

    async def show(self, request: Request) -> Response:
        """The response, or with `stream=true` its events again, after `starting_after`."""
        stored = self._find(request)
        if request.query_params.get("stream") != "true":
            return _response(stored, stored.resource())
        after = request.query_params.get("starting_after", "-1")
        first = int(after) + 1 if after.lstrip("-").isdigit() else 0
        events = [event for event in stored.script.events if event.sequence >= first]
        if not (stored.call.background and stored.call.stream and events):
            raise MockRefusal(
                400, "Only background responses made with stream=true can be streamed again.", param="stream"
            )
        headers = [(b"content-type", content_type(stored.call.dialect, stream=True))]
        return event_stream(_replay(stored, replace(stored.script, events=events)), headers)

    async def delete(self, request: Request) -> Response:
        """Forget it."""
        stored = self._find(request)
        self._state.stored.remove(stored.entry.id)
        return JSONResponse({"id": stored.entry.id, "object": "response", "deleted": True})

    async def cancel(self, request: Request) -> Response:
        """Stop a call in the background; one that is over stays as it is."""
        stored = self._find(request)
        if not stored.call.background:
            raise MockRefusal(400, "Only responses created with background=true can be cancelled.")
        self._state.books.close(stored.entry, status="cancelled", whole=False)
        return _response(stored, stored.resource())

    async def input_items(self, request: Request) -> Response:
        """The input, newest first unless `order=asc`, in pages of `limit` after the item `after`."""
        stored = self._find(request)
        items = [_item(stored, number, item) for number, item in enumerate(stored.call.items)]
        if request.query_params.get("order") != "asc":
            items.reverse()
        after = request.query_params.get("after")
        start = next((place + 1 for place, item in enumerate(items) if item["id"] == after), 0)
        limit = request.query_params.get("limit", "")
        size = min(int(limit), _MOST_LIMIT) if limit.isdigit() and int(limit) else _DEFAULT_LIMIT
        page = items[start : start + size]
        ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        body = {"object": "list", "data": page, **ends, "has_more": len(items) > start + size}
        return Response(encode(body), media_type="application/json")

    def _find(self, request: Request) -> StoredResponse:
        self._state.check_key(request.headers)
        response_id = request.path_params["response_id"]
        stored = self._state.stored.get(response_id)
        if stored is None:
            raise MockRefusal(404, f"Response with id '{response_id}' not found.")
        return stored


def _response(stored: StoredResponse, resource: Json) -> Response:
    shaped = stored.call.dialect.payload({"response": resource}) or {}
    return Response(encode(shaped["response"]), media_type="application/json")


async def _replay(stored: StoredResponse, script: ScenarioScript) -> AsyncIterator[bytes]:
    for frame in Framing(stored.call, FaultSet()).stream(script):
        yield frame.data


def _item(stored: StoredResponse, number: int, item: Json) -> Json:
    text = item.get("content")
    content = [{"type": "input_text", "text": text}] if isinstance(text, str) else text
    named: Json = {"id": f"msg_{stored.entry.id}_{number}", "type": "message", **item}
    return named | {"content": content} if content is not None else named
