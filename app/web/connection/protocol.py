"""Our uvicorn protocol class: one client connection. It closes the gaps that uvicorn leaves to others (threats.md A2).

    HEAD ──complete──> BODY ──complete──> ANSWER ──sent──> HEAD ...
      │ deadline         │ pace             │ write stall
      └──────────────────┴──────────────────┴─────────────> DISCARD ──client closes, or time is up──> closed
                  what the client still sends is read and dropped, so that it sees the answer and not a reset

One request is parsed at a time. What comes while it is being answered waits, MAX_UNPARSED_BYTES at most; then reading
stops until the answer has left. Deadlines are absolute: a byte now and then buys no time. A request is judged on the
parser's own reading before the application hears of it. The hot route is told at once when its client is gone.
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
"""Parts of a body that are parsed in a row, before others have their turn."""

_LEAST_READ_BYTES = 1024  # a transport takes no empty buffer

_RECEIVED = memoryview(bytearray(MAX_UNPARSED_BYTES))
"""What was read last, on any connection: it is parsed or copied before the next read."""


class ClientConnection(asyncio.BufferedProtocol):
    """At most one request of it is being answered: `cycle`. `on_lost` is called when the client is gone meanwhile."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        doorkeeper: ConnectionLimiter,
    ) -> None:
        self.address: str | None = None
        self.on_lost: Callable[[], None] | None = None
        self.cycle: ResponseCycle | None = None
        self.loop = _loop or asyncio.get_event_loop()
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self.doorkeeper = doorkeeper
        self._parser = RequestParser()
        self._stage = Stage.HEAD
        self._deadline: float | None = None  # of the head, or of an idle connection
        self._pace: BodyPace | None = None  # of a body that did not come with its head
        self._unparsed = b""
        self._lingering: LingeringClose | None = None
        self._stall: WriteStall | None = None

    # -- the socket --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the client in, if there is room; its first request must come in time."""
        transport = cast("asyncio.Transport", transport)
        self.transport = transport
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.flow = FlowControl(transport)
        self._server = get_local_addr(transport)
        self._client = get_remote_addr(transport)
        self.address = self._client[0] if self._client else None
        self._state.connections.add(self)  # type: ignore[arg-type]  # the server only tells it to shut down
        self._allow(self.doorkeeper.limits.request_seconds)
        full = self.doorkeeper.enter(self)
        if full is not None:
            self._refuse(full, LINGER_BRIEFLY_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it does not matter why
        """Tell whoever is answering, and hold nothing more."""
        self.doorkeeper.leave(self)
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
        """Where the next bytes go: no more than may wait unparsed."""
        return _RECEIVED[: max(_LEAST_READ_BYTES, MAX_UNPARSED_BYTES - len(self._unparsed))]

    def buffer_updated(self, nbytes: int) -> None:
        """Parse; or keep for later; or drop, when nothing more is wanted of this client."""
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
        """A client that ends its side has left: the transport closes."""

    def pause_writing(self) -> None:
        """The client does not read as fast as we write: from now on it must make progress."""
        self.flow.pause_writing()
        self._stall = WriteStall(self.transport, self.loop.time())

    def resume_writing(self) -> None:
        """The client has read on."""
        self.flow.resume_writing()
        self._stall = None

    # -- requests ----------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        """Parse to the end of one request; what is behind it waits until that one is answered."""
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
        elif self._stage is Stage.BODY:  # it was answered before it was whole
            self._next()

    def _await_more(self, came: int, *, begins: bool) -> None:
        """The head must be complete in time, the body come fast enough."""
        if self._stage is Stage.BODY:
            if self._pace is not None:
                self._pace.received += came
            elif self.cycle is not None:
                self._pace = BodyPace(self.loop.time(), self.doorkeeper.limits.request_seconds)
            if came == MAX_UNPARSED_BYTES and self.cycle is not None and self.cycle.body:
                self.flow.pause_reading()  # until the application has taken it: small chunks are much work
        elif begins:
            self._allow(self.doorkeeper.limits.request_seconds)
        if self._unparsed:  # others have their turn first
            self.flow.pause_reading()
            self.loop.call_soon(self._parse_on)

    def _parse_on(self) -> None:
        data, self._unparsed = self._unparsed, b""
        if data:
            self._parse(data)
        if not self._unparsed:
            self.flow.resume_reading()

    def _pass_on(self) -> bool:
        """Hand what was parsed to the application, the head first. False when the head is refused."""
        if self._stage is Stage.HEAD:
            try:
                self._begin()
            except ApiError as error:
                self._refuse(error)
                return False
        parser, cycle = self._parser, self.cycle
        if cycle is None:  # it is answered: the rest of its body is dropped
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
        """The head is complete: start the application on it. Raises ApiError when it must be refused."""
        parser = self._parser
        scope = request_scope(parser, self.doorkeeper.rules, self._server, self._client, self._app_state)
        self._stage = Stage.BODY
        self._deadline = None
        self.cycle = cycle = ResponseCycle(self, scope, keep_alive=parser.keep_alive, expects_100=parser.expects_100)
        task = self.loop.create_task(cycle.run_asgi(self._config.loaded_app))
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    def answered(self) -> None:
        """The answer is complete: the next request may begin, or the connection rests for a while."""
        if self._stage is Stage.DISCARD or self.is_closing():
            return
        self.cycle = None
        if self._stage is Stage.ANSWER:
            self._next()
        else:
            self._pace = None
            self._allow(self.doorkeeper.limits.request_seconds)
            self.flow.resume_reading()

    def _next(self) -> None:
        self._stage = Stage.HEAD
        self._parser.next_request()
        self._allow(self._config.timeout_keep_alive)
        self._parse_on()

    # -- refusing and closing ----------------------------------------------------------------------------------

    def _fail(self, error: ApiError) -> None:
        """The request is broken. Who is reading it answers that; else it is answered here."""
        cycle = self.cycle
        if cycle is not None:
            self._stage = Stage.DISCARD
            self._pace, self._unparsed = None, b""
            cycle.fail(error)
        elif self._stage is Stage.BODY:  # it was answered already
            self._linger(LINGER_SECONDS)
        else:
            self._refuse(error)

    def _refuse(self, error: ApiError, linger_seconds: float = LINGER_SECONDS) -> None:
        """Answer in place of the application, and close."""
        request = f"{self._parser.method} {path_of(self._parser.target)}"
        self.doorkeeper.refused(error, self.address, request)
        self.write(refusal(error, self.doorkeeper.new_id()))
        self._linger(linger_seconds)

    def close(self) -> None:
        """Close so that the client sees what was sent, even if it is still sending itself."""
        cycle, self.cycle = self.cycle, None
        if cycle is not None and cycle.until_close and not cycle.response_complete:
            reset(self.transport)
        elif self._stage is Stage.ANSWER and not self._unparsed:
            self.transport.close()
        else:
            self._linger(LINGER_SECONDS)

    def shutdown(self) -> None:
        """The server stops: close now, or behind the answer that is under way."""
        if self.cycle is None:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def look_at(self, now: float) -> None:
        """End the connection when its time is up or its client does not read."""
        if self._lingering is not None:
            self._lingering.look_at(now)
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
            self._stall.look_at(now, self.doorkeeper.limits.write_seconds)

    def _linger(self, seconds: float) -> None:
        self._stage = Stage.DISCARD
        self._pace = self._deadline = self.cycle = None
        self._unparsed = b""
        self._lingering = LingeringClose(self.transport, self.loop.time(), seconds)
        if not self.is_closing():
            self.flow.resume_reading()

    def _allow(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
