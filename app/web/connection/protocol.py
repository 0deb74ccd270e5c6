"""Our uvicorn protocol class: one client connection, with the deadlines and bounds that uvicorn lacks (threats.md A2).

    HEAD ──complete──> BODY ──complete──> ANSWER ──sent──> HEAD ...
      │ deadline         │ pace             │ write stall
      └──────────────────┴──────────────────┴─────────────> DISCARD ──client closes, or time is up──> closed
                  what the client still sends is read and dropped, so that it sees the answer and not a reset

One request is parsed at a time. Bytes that arrive while it is being answered wait, up to MAX_UNPARSED_BYTES; then we
stop reading until the answer has left. A head's deadline is absolute: a slow trickle of bytes does not extend it. The
request rules judge what the parser has read, before the application starts. The forwarding route learns at once when
its client leaves.
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from app.domain.errors import ApiError, RequestTimedOut
from app.web.connection.body_pace import TOO_SLOW, BodyPace
from app.web.connection.limiter import ConnectionLimiter
from app.web.connection.lingering_close import LINGER_BRIEFLY_SECONDS, LINGER_SECONDS, LingeringClose
from app.web.connection.request_parser import RequestParser, path_of
from app.web.connection.request_scope import request_scope
from app.web.connection.reset import has_hung_up, reset
from app.web.connection.response_cycle import ResponseCycle, refusal
from app.web.connection.stage import Stage
from app.web.connection.write_stall import WriteStall

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_UNPARSED_BYTES = 64 * 1024
_MAX_STEPS = 1000
"""Parts of a body that are parsed in a row, before other connections have their turn."""

_LEAST_READ_BYTES = 1024  # a transport takes no empty buffer

_RECEIVED = memoryview(bytearray(MAX_UNPARSED_BYTES))
"""The buffer that all connections read into. Its bytes are parsed or copied before the next read."""


class ClientConnection(asyncio.BufferedProtocol):
    """`cycle` is the request that is being answered, if any. `on_lost` is called when the client leaves meanwhile."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limiter: ConnectionLimiter,
    ) -> None:
        self.address: str | None = None
        self.on_lost: Callable[[], None] | None = None
        self.cycle: ResponseCycle | None = None
        self.loop = _loop or asyncio.get_event_loop()
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self.limiter = limiter
        self._parser = RequestParser()
        self._stage = Stage.HEAD
        self._deadline: float | None = None  # of the head, or of an idle connection
        self._pace: BodyPace | None = None  # of a body that did not come with its head
        self._unparsed = b""
        self._lingering: LingeringClose | None = None
        self._stall: WriteStall | None = None

    # -- the socket --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the client if there is room, and start the deadline of its first request."""
        transport = cast("asyncio.Transport", transport)
        self.transport = transport
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.flow = FlowControl(transport)
        self._server = get_local_addr(transport)
        self._client = get_remote_addr(transport)
        self.address = self._client[0] if self._client else None
        self._state.connections.add(self)  # type: ignore[arg-type]  # the server only tells it to shut down
        self._allow(self.limiter.limits.request_seconds)
        full = self.limiter.enter(self)
        if full is not None:
            self._refuse(full, LINGER_BRIEFLY_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it does not matter why
        """Tell the code that is answering, and free what the connection holds."""
        self.limiter.leave(self)
        self._state.connections.discard(self)
        cycle, self.cycle = self.cycle, None
        if cycle is not None:
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
        self.flow.resume_writing()
        self._parser.close()
        self._unparsed = b""
        lost, self.on_lost = self.on_lost, None
        if lost is not None:
            lost()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - it is always the same
        """The buffer for the next read: no longer than what may still wait unparsed."""
        return _RECEIVED[: max(_LEAST_READ_BYTES, MAX_UNPARSED_BYTES - len(self._unparsed))]

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the bytes; or keep them while an answer is under way; or drop them when the connection is closing."""
        stage = self._stage
        if stage is Stage.DISCARD:
            if self._lingering is not None:
                self._lingering.discard(nbytes, self.loop.time())
        elif stage is Stage.ANSWER or self._unparsed:
            self._unparsed += _RECEIVED[:nbytes]
            if len(self._unparsed) >= MAX_UNPARSED_BYTES:
                self.flow.pause_reading()
        else:
            self._parse(bytes(_RECEIVED[:nbytes]))

    def eof_received(self) -> None:
        """Treat a client that ends its side as gone: the transport closes."""

    def pause_writing(self) -> None:
        """Watch that the client makes progress, now that it reads more slowly than we write."""
        self.flow.pause_writing()
        self._stall = WriteStall(self.transport, self.loop.time())

    def resume_writing(self) -> None:
        """Stop watching: the client has caught up."""
        self.flow.resume_writing()
        self._stall = None

    # -- requests ----------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        """Parse to the end of one request. The bytes behind it wait until it is answered."""
        parser, end = self._parser, 0
        fresh = not parser.target
        for _ in range(_MAX_STEPS):
            try:
                end = parser.feed(data, end)
            except ApiError as error:
                self._fail(error)
                return
            if parser.headed and not self._pass_on():
                return
            if parser.whole or end == len(data):
                break
        self._unparsed = data[end:]
        if not parser.whole:
            self._await_more(len(data), begins=fresh and bool(parser.target))
        elif self._stage is Stage.BODY:  # the answer was complete before the body was
            self._next()

    def _await_more(self, came: int, *, begins: bool) -> None:
        """Set the deadline of the head, or measure the pace of the body."""
        if self._stage is Stage.BODY:
            if self._pace is not None:
                self._pace.received += came
            elif self.cycle is not None:
                self._pace = BodyPace(self.loop.time(), self.limiter.limits.request_seconds)
            if came == MAX_UNPARSED_BYTES and self.cycle is not None and self.cycle.body:
                self.flow.pause_reading()  # until the application has taken it: small chunks cost much time
        elif begins:
            self._allow(self.limiter.limits.request_seconds)
        if self._unparsed:  # other connections have their turn first
            self.flow.pause_reading()
            self.loop.call_soon(self._parse_on)

    def _parse_on(self) -> None:
        data, self._unparsed = self._unparsed, b""
        if data:
            self._parse(data)
        if not self._unparsed:
            self.flow.resume_reading()

    def _pass_on(self) -> bool:
        """Give what was parsed to the application, the head first. False when the head is refused."""
        if self._stage is Stage.HEAD:
            try:
                self._begin()
            except ApiError as error:
                self._refuse(error)
                return False
        parser, cycle = self._parser, self.cycle
        if cycle is None:  # the answer is complete: drop the rest of the body
            parser.body.clear()
        elif parser.whole or parser.body:
            cycle.body += b"".join(parser.body)
            parser.body.clear()
            if parser.whole:
                self._stage = Stage.ANSWER
                self._pace = None
                cycle.more_body = False
                self.flow.resume_reading()
            elif len(cycle.body) >= MAX_UNPARSED_BYTES:
                self.flow.pause_reading()
            cycle.message_event.set()
        return True

    def _begin(self) -> None:
        """Start the application on a complete head. Raises ApiError when the head must be refused."""
        parser = self._parser
        scope = request_scope(parser, self.limiter.rules, self._server, self._client, self._app_state)
        self._stage = Stage.BODY
        self._deadline = None
        self.cycle = cycle = ResponseCycle(self, scope, keep_alive=parser.keep_alive, expects_100=parser.expects_100)
        task = self.loop.create_task(cycle.run_asgi(self._config.loaded_app))
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    def answered(self) -> None:
        """After an answer is complete: go on to the next request, or drop the rest of this one's body first."""
        if self._stage is Stage.DISCARD or self.is_closing():
            return
        self.cycle = None
        if self._stage is Stage.ANSWER:
            self._next()
        else:
            self._pace = None
            self._allow(self.limiter.limits.request_seconds)
            self.flow.resume_reading()

    def _next(self) -> None:
        self._stage = Stage.HEAD
        self._parser.next_request()
        self._allow(self._config.timeout_keep_alive)
        self._parse_on()

    # -- refusing and closing ----------------------------------------------------------------------------------

    def _fail(self, error: ApiError) -> None:
        """End a broken request. The application answers it if it has begun; else the connection does."""
        cycle = self.cycle
        if cycle is not None:
            self._stage = Stage.DISCARD
            self._pace, self._unparsed = None, b""
            cycle.fail(error)
        elif self._stage is Stage.BODY:  # it has had its answer
            self._linger(LINGER_SECONDS)
        else:
            self._refuse(error)

    def _refuse(self, error: ApiError, linger_seconds: float = LINGER_SECONDS) -> None:
        """Answer without the application, and close."""
        request = f"{self._parser.method} {path_of(self._parser.target)}"
        self.limiter.refused(error, self.address, request)
        self.write(refusal(error, self.limiter.new_id()))
        self._linger(linger_seconds)

    def close(self) -> None:
        """Close so that the client receives the whole answer, even while it is still sending."""
        cycle, self.cycle = self.cycle, None
        if cycle is not None and cycle.until_close and not cycle.response_complete:
            reset(self.transport)
        elif self._stage is Stage.ANSWER and not self._unparsed:
            self.transport.close()
        else:
            self._linger(LINGER_SECONDS)

    def shutdown(self) -> None:
        """Close because the server stops: now, or after the answer that is under way."""
        if self.cycle is None:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def check(self, now: float) -> None:
        """End the connection if a deadline has passed, its body is too slow, or its client does not read."""
        if self._lingering is not None:
            self._lingering.check(now)
        elif self._pace is not None:
            if self.flow.read_paused:
                self._pace.excuse(now)
            elif self._pace.is_too_slow(now):
                self._fail(RequestTimedOut(TOO_SLOW))
        elif self._deadline is not None and now > self._deadline:
            if self._stage is Stage.HEAD and self._parser.target:
                self._refuse(RequestTimedOut(TOO_SLOW), LINGER_BRIEFLY_SECONDS)
            else:
                self.transport.abort()
        elif self.flow.read_paused and has_hung_up(self.transport):
            self.transport.abort()
        if self._stall is not None:
            self._stall.check(now, self.limiter.limits.write_seconds)

    def _linger(self, seconds: float) -> None:
        self._stage = Stage.DISCARD
        self._pace = self._deadline = self.cycle = None
        self._unparsed = b""
        self._lingering = LingeringClose(self.transport, self.loop.time(), seconds)
        if not self.is_closing():
            self.flow.resume_reading()

    def _allow(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
