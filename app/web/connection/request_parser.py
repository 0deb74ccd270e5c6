"""Reads requests from a client's bytes: one request at a time, with every part of it bounded.

    head ──judged──> body ──> whole ──next_request()──> head ...

httptools parses whatever it is given, also the requests behind the first one. So it is given one head, or one body, at
a time: a head and a body in chunks both end with an empty line, and other bodies have a length.
"""

from typing import TYPE_CHECKING

import httptools

from app.domain.errors import ApiError, HeadersTooLarge, InvalidRequest
from app.web.connection.declined_upgrade import head_without_offer
from app.web.connection.request_rules import MAX_HEAD_BYTES, MAX_HEADERS

if TYPE_CHECKING:
    from app.domain.headers import Headers

MAX_FRAMING_BYTES = 64 * 1024
"""Of one body in chunks: extensions and trailers together."""

_CHUNK_FRAME_BYTES = 20
"""What each chunk may have besides its data: a size of 16 digits and two line ends."""

_END = b"\r\n\r\n"
_NOT_HTTP = "The request is not well-formed HTTP."
_HEAD_TOO_LARGE = f"The request's headers are over {MAX_HEAD_BYTES} bytes, or more than {MAX_HEADERS}."
_FRAMING_TOO_LARGE = (
    f"The trailers and chunk extensions of the request's body are over {MAX_FRAMING_BYTES} bytes, "
    f"or the trailers more than {MAX_HEADERS}."
)


def path_of(target: bytes) -> str:
    """The path of a request's target, to be shown: a query may hold secrets."""
    return target.partition(b"?")[0].decode("latin-1")


class RefusedError(Exception):
    """Stops httptools in the middle of its input; `RequestParser._refusal` says why."""


class RequestParser:
    """What is known of the request that is coming in. `body` has what came of it and was not taken yet."""

    __slots__ = (
        "_body_left",
        "_chunked",
        "_framing",
        "_head_bytes",
        "_parser",
        "_refusal",
        "_tail",
        "_trailers",
        "body",
        "expects_100",
        "headed",
        "headers",
        "keep_alive",
        "method",
        "on_body",
        "target",
        "version",
        "whole",
    )

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.on_body = self.body.append
        self._parser = httptools.HttpRequestParser(self)
        self.next_request()

    def next_request(self) -> None:
        """Forget the request that was read, and be ready for the next one."""
        self.target = b""
        self.headers: Headers = []
        self.method = ""
        self.version = "1.1"
        self.keep_alive = False
        self.expects_100 = False
        self.headed = False  # is the head complete?
        self.whole = False  # is the body complete, too?
        self._refusal: ApiError | None = None
        self._head_bytes = 0
        self._body_left = 0  # of a body with a Content-Length
        self._chunked = False
        self._framing = 0
        self._trailers = 0
        self._tail = b""  # the last bytes that were fed, as far as an empty line may have begun in them

    def close(self) -> None:
        """Let httptools go, which holds this object."""
        del self._parser
        self.body.clear()

    def feed(self, data: bytes, start: int) -> int:
        """Parse from `start` to the end of the head, of the body or of a part of it, or of the data.

        Gives the position behind what was parsed. Raises ApiError when the request is malformed or too large.
        """
        end = self._end(data, start)
        piece = data[start:end] if start or end < len(data) else data
        in_body = self.headed
        if not in_body:
            self._head_bytes += len(piece)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise HeadersTooLarge(_HEAD_TOO_LARGE)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError:
            raise self._refusal or InvalidRequest(_NOT_HTTP) from None
        except httptools.HttpParserUpgrade:
            self._decline_upgrade()
        if in_body and self._chunked:
            self._framing += len(piece) - sum(map(len, self.body)) - _CHUNK_FRAME_BYTES * len(self.body)
            if self._framing > MAX_FRAMING_BYTES:
                raise HeadersTooLarge(_FRAMING_TOO_LARGE)
        return end

    def _end(self, data: bytes, start: int) -> int:
        """Where the head, the body, or a part of it that may be the last, ends; at most the end of the data."""
        if self.headed and self._body_left:
            end = min(len(data), start + self._body_left)
            self._body_left -= end - start
            return end
        if self._tail:
            tail, self._tail = self._tail, b""
            found = (tail + data[start : start + 3]).find(_END)
            if found >= 0:
                return start + found + 4 - len(tail)
            if len(data) - start < 3:
                self._tail = (tail + data[start:])[-3:]
                return len(data)
        found = data.find(_END, start)
        if found >= 0:
            return found + 4
        self._tail = data[-3:] if start < len(data) - 3 else data[start:]
        return len(data)

    def _decline_upgrade(self) -> None:
        """Read the head again, without the offer to change the protocol."""
        if self._parser.get_method() == b"CONNECT":
            raise InvalidRequest("CONNECT is not served here.") from None
        head = head_without_offer(self._parser, self.target, self.headers)
        self._parser = httptools.HttpRequestParser(self)
        self.target, self.headers = b"", []
        try:
            self._parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise InvalidRequest(_NOT_HTTP) from None

    # -- what httptools calls, while it is fed ---------------------------------------------------------------------

    def on_url(self, part: bytes) -> None:
        """A part of the target. A second request must not be among what was fed."""
        if self.headed:
            raise RefusedError
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the head; one behind the body is a trailer, counted and dropped."""
        if self.headed:
            self._trailers += 1
            if self._trailers > MAX_HEADERS:
                self._refusal = HeadersTooLarge(_FRAMING_TOO_LARGE)
                raise RefusedError
            return
        headers = self.headers
        if len(headers) == MAX_HEADERS:
            self._refusal = HeadersTooLarge(_HEAD_TOO_LARGE)
            raise RefusedError
        name = name.lower()
        headers.append((name, value))
        if name == b"expect":
            self.expects_100 = value.lower() == b"100-continue"
        elif name == b"content-length":
            self._body_left = int(value)  # httptools has seen that it is a number
        elif name == b"transfer-encoding":
            self._chunked = True

    def on_headers_complete(self) -> None:
        """The head is complete, unless it will be read again without the upgrade that it offers."""
        parser = self._parser
        if parser.should_upgrade():
            return
        self.headed = True
        self.method = parser.get_method().decode("ascii")
        self.version = parser.get_http_version()
        self.keep_alive = self.version != "1.0" and parser.should_keep_alive()
        self.expects_100 = self.expects_100 and self.version != "1.0"  # which knows no interim answer

    def on_message_complete(self) -> None:
        """The body is complete. Behind an offered upgrade it has not even begun."""
        self.whole = self.headed
