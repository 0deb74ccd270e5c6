"""Our uvicorn protocol class: httptools' parser, with the gaps closed that uvicorn leaves to others (threats.md A2).

    connected ──first byte──> head ──judged──> body ──whole──> answering ──sent──> idle ──first byte──> head ...
        │ deadline             │ deadline        │ deadline        │ write stall      │ keep-alive deadline
        └──────────────────────┴─────────────────┴─────────────────┴──────────────────┴──> closed
                  refused: our error body, then what the client is still sending is read and dropped
                  for a second, so that it sees the answer and not a reset; then closed

Deadlines are absolute: a byte now and then buys no time. A request is judged on the parser's own reading before the
application hears of it. Trailers are dropped. The hot route is told at once when its client's connection is lost.
"""

import asyncio
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.domain.errors import ApiError, HeadersTooLarge, InvalidRequest
from app.web.answering import Answering
from app.web.connection_reset import reset
from app.web.declined_upgrade import head_without_offer, parser_of
from app.web.doorkeeper import Doorkeeper
from app.web.errors import error_answer
from app.web.gentle_transport import GentleTransport
from app.web.request_rules import MAX_HEAD_BYTES, MAX_HEADERS, judge_old_version

if TYPE_CHECKING:
    from collections.abc import Callable

DISCARD_BYTES = 1024 * 1024
DISCARD_SECONDS = 1.0
_HEAD_TOO_LARGE = f"The request's headers are over {MAX_HEAD_BYTES} bytes, or more than {MAX_HEADERS}."


class RefusedError(Exception):
    """Stops the parser in mid-head; the reason is with the connection."""


class ClientConnection(HttpToolsProtocol):
    """One client connection. At most one request of it is being answered; `on_lost` is that one's."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        doorkeeper: Doorkeeper,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.address: str | None = None
        self.on_lost: Callable[[], None] | None = None
        self._doorkeeper = doorkeeper
        self._deadline: float | None = None
        self._head_bytes = 0  # of the head that is coming in
        self._in_head = True
        self._in_body = False
        self._refusal: ApiError | None = None
        self._discarded: int | None = None  # bytes read and dropped, once nothing more is expected
        self._stalled_since: float | None = None
        self._stalled_bytes = 0

    # -- the socket --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the client in, if there is room; its first request must come in time."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else None
        self._gentle = GentleTransport(self)
        self._allow(self._doorkeeper.limits.request_seconds)
        full = self._doorkeeper.enter(self)
        if full is not None:
            self._refuse(full)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever is answering."""
        self._doorkeeper.leave(self)
        super().connection_lost(exc)
        lost, self.on_lost = self.on_lost, None
        if lost is not None:
            lost()

    def data_received(self, data: bytes) -> None:
        """Parse; or drop, when nothing more is wanted of this client."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > DISCARD_BYTES:
                self.transport.abort()
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._deadline is None:  # also for bytes that begin nothing, as endless line ends
                self._allow(self._doorkeeper.limits.request_seconds)
        self._parse(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and self._discarded is None:
            self._refuse(HeadersTooLarge(_HEAD_TOO_LARGE))

    def pause_writing(self) -> None:
        """The client does not read as fast as we write: from now on it must make progress."""
        super().pause_writing()
        self._stalled_since = self.loop.time()
        self._stalled_bytes = self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._stalled_since = None

    # -- the parser --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins: give it its connection, and its head a deadline."""
        super().on_message_begin()
        self._in_head = True
        self._allow(self._doorkeeper.limits.request_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head; one that comes behind the body is a trailer, and dropped."""
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Judge the head; then the application may have it, and the body gets a deadline of its own."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop(InvalidRequest("CONNECT is not served here."))
            return  # it is read again, without the offer
        self._in_head = False
        if len(self.headers) > MAX_HEADERS or (self._head_bytes > MAX_HEAD_BYTES and self._size() > MAX_HEAD_BYTES):
            self._stop(HeadersTooLarge(_HEAD_TOO_LARGE))
        refusal = self._doorkeeper.rules.judge(self.url, self.headers)
        if refusal is not None:
            self._stop(refusal)
        self._in_body = True
        self._allow(self._doorkeeper.limits.request_seconds)
        self._take_request()

    def on_message_complete(self) -> None:
        """The request is whole: from here on, time is ours and upstream's."""
        if self._in_head:
            return  # an offered upgrade ends the parsing there
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0
        self._deadline = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is whole: the next request may begin, or the connection rests for a while."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._deadline is None:
            self._allow(self.timeout_keep_alive)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        except httptools.HttpParserUpgrade as offer:
            head = head_without_offer(self.parser, self.url, self.headers)
            self.parser = parser_of(self)
            self._parse(head + data[offer.args[0] :])

    def _take_request(self) -> None:
        """Hand the request to the application, behind those of this connection that came before it."""
        version = self.parser.get_http_version()
        if version != "1.1":
            self._judge_old_version(version)
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope |= {
            "method": self.parser.get_method().decode("ascii"),
            "http_version": version,
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
        }
        waiting = self._open_cycle() is not None
        self.cycle = Answering(
            self,
            http_1_0=version == "1.0",
            scope=self.scope,
            transport=self._gentle,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if waiting:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def _judge_old_version(self, version: str) -> None:
        refusal = judge_old_version(version, self.headers)
        if refusal is not None:
            self._stop(refusal)
        self.expect_100_continue = False  # an HTTP/1.0 client could not read the interim answer

    # -- refusing and closing ----------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        """Called by uvicorn when the parser stopped: by our judgement or by its own."""
        self._refuse(self._refusal or InvalidRequest("The request is not well-formed HTTP."))

    def close_gently(self) -> None:
        """Close so that the client sees what was sent, even if it is still sending itself."""
        cycle = self._open_cycle()
        if cycle is not None and cycle.until_close:
            reset(self.transport)
            return
        if self._in_head and not self._in_body and self._refusal is None:
            self.transport.close()
            return
        self._discarded = 0
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(DISCARD_SECONDS, self.transport.abort)

    def look_at(self, now: float) -> None:
        """The doorkeeper's round: drop the connection when its deadline has passed or its client stopped reading."""
        if self._deadline is not None and now > self._deadline and not self._answering():
            self.transport.abort()
        elif self._stalled_since is not None:
            waiting = self.transport.get_write_buffer_size()
            if waiting != self._stalled_bytes:
                self._stalled_since, self._stalled_bytes = now, waiting
            elif now - self._stalled_since > self._doorkeeper.limits.write_seconds:
                self.transport.abort()

    def _size(self) -> int:
        """Of the head alone: `_head_bytes` counts all that came with its end, which may be most of a body."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _allow(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds

    def _answering(self) -> bool:
        """Is an answer under way whose request came whole? Then what else the client sends has time."""
        cycle = self._open_cycle()
        return cycle is not None and not cycle.more_body

    def _open_cycle(self) -> Answering | None:
        """The newest request that is not answered yet."""
        cycle = cast("Answering | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    def _stop(self, error: ApiError) -> None:
        self._refusal = error
        raise RefusedError

    def _refuse(self, error: ApiError) -> None:
        """Answer in place of the application, unless it is answering: then the connection ends behind that answer."""
        self._refusal = error
        self._doorkeeper.refused(error.error_type)
        cycle = self._open_cycle()
        if cycle is not None:
            if not cycle.more_body:  # an earlier request of this connection, asked properly
                cycle.keep_alive = False
                self._discarded = 0
                return
            cycle.disconnected = True  # this one, broken in its body
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        status, headers, body = error_answer(error, self._doorkeeper.new_id())
        lines = [
            STATUS_LINE[status],
            *(b"%s: %s\r\n" % header for header in headers),
            b"connection: close\r\n\r\n",
            body,
        ]
        self.transport.write(b"".join(lines))
        self.close_gently()
