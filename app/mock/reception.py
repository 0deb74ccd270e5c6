"""Reads calls: the key, the body, the dialect, and what a dialect refuses."""

from starlette.requests import Request

from app.mock.call import MockCall, pick_dialect, read_body
from app.mock.dialects import DIALECTS, Dialect
from app.mock.refusals import MockRefusal
from app.mock.state import MockState


class Reception:
    """The steps that all routes of one mock share."""

    def __init__(self, state: MockState) -> None:
        self._state = state

    def dialect(self, request: Request) -> Dialect:
        """Of a call without a body, and of refusals before the body is understood."""
        known = getattr(request.state, "dialect", None)
        if isinstance(known, Dialect):
            return known
        return DIALECTS[request.headers.get("x-mock-dialect", "")] if self._names_one(request) else self._default

    async def take(self, request: Request) -> tuple[MockCall, bytes]:
        """The call and its body as it came. Raises Refusal."""
        self._state.books.stats.requests += 1
        key = self._state.check_key(request.headers)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise MockRefusal(415, "The mock takes plain bodies only.")
        raw = await self._body(request)
        body = read_body(raw)
        dialect = pick_dialect(request.headers, body, self._state.options.dialect)
        request.state.dialect = dialect
        return self._continued(MockCall(body, dialect, key)), raw

    async def _body(self, request: Request) -> bytes:
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._state.options.max_body_bytes:
                raise MockRefusal(413, "The request is too large.")
            chunks.append(chunk)
        return b"".join(chunks)

    def _continued(self, call: MockCall) -> MockCall:
        """With the history of the response it continues, and refused if the dialect has no such thing."""
        previous = call.body.get("previous_response_id")
        if call.dialect.stateless:
            if call.stored:
                raise MockRefusal(400, "store must be false", code="invalid_prompt")
            if previous is not None:
                raise MockRefusal(400, "previous_response_id must be null", code="invalid_prompt")
        if call.background and not call.stored:
            raise MockRefusal(400, "background requires store to be true", param="background")
        if previous is None:
            return call
        found = self._state.stored.get(str(previous))
        if found is None:
            message = f"Previous response with id '{previous}' not found."
            raise MockRefusal(400, message, param="previous_response_id", code="previous_response_not_found")
        return MockCall(call.body, call.dialect, call.key, history=found.history)

    @property
    def _default(self) -> Dialect:
        return DIALECTS[self._state.options.dialect]

    def _names_one(self, request: Request) -> bool:
        return request.headers.get("x-mock-dialect") in DIALECTS
