"""Parses one request at a time from a client's bytes, and bounds every part of it.

    head ──judged──> body ──> whole ──next_request()──> head ...

httptools parses everything that it is given, also the requests behind the first one. So it is given one head or one
body at a time: a head and a chunked body both end with an empty line, and other bodies have a length.
"""

from typing import TYPE_CHECKING

import httptools

from app.domain.errors import ApiError, HeadersTooLarge, InvalidRequest
from app.web.connection.declined_upgrade import head_without_offer
from app.web.connection.request_rules import MAX_HEAD_BYTES, MAX_HEADERS

if TYPE_CHECKING:
    from app.domain.headers import Headers

MAX_FRAMING_BYTES = 64 * 1024
"""The most that chunk extensions and trailers of one body may take together."""

_CHUNK_FRAME_BYTES = 20
"""What each chunk may have around its data: a size of 16 digits and two line ends."""

_END = b"\r\n\r\n"
_NOT_HTTP = "The request is not well-formed HTTP."
_HEAD_TOO_LARGE = f"The request's headers are over {MAX_HEAD_BYTES} bytes, or more than {MAX_HEADERS}."
_FRAMING_TOO_LARGE = (
    f"The trailers and chunk extensions of the request's body are over {MAX_FRAMING_BYTES} bytes, "
    f"or the trailers more than {MAX_HEADERS}."
)


def path_of(target: bytes) -> str:
    """The path of a request's target, without its query, which may hold secrets."""
    return target.partition(b"?")[0].decode("latin-1")


class RefusedError(Exception):
    """Stops httptools in the middle of its input. `RequestParser._refusal` has the reason."""


class RequestParser:
    """The request that is arriving. `body` has the parts that were parsed and not yet taken."""

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
        """Get ready for the next request."""
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
        self._body_left = 0  # bytes still to come of a body with a Content-Length
        self._chunked = False
        self._framing = 0
        self._trailers = 0
        self._tail = b""  # the last bytes that were fed, in which an empty line may have begun

    def close(self) -> None:
        """Drop the reference to httptools, which refers back to this object."""
        del self._parser
        self.body.clear()

    def feed(self, data: bytes, start: int) -> int:
        """Parse from `start` to the end of the head, of the body or of a part of it, or of the data.

        Returns the position behind what was parsed. Raises ApiError when the request is malformed or too large.
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
            surplus = len(piece) - sum(map(len, self.body)) - _CHUNK_FRAME_BYTES * len(self.body)
            self._framing = max(0, self._framing + surplus)  # what small chunks leave is no room for a later trailer
            if self._framing > MAX_FRAMING_BYTES:
                raise HeadersTooLarge(_FRAMING_TOO_LARGE)
        return end

    def _end(self, data: bytes, start: int) -> int:
        """Where to stop feeding: at the end of the head, of the body, of a possible last part of it, or of the data."""
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
        """Parse the head again without its `Upgrade`."""
        if self._parser.get_method() == b"CONNECT":
            raise InvalidRequest("CONNECT is not served here.") from None
        head = head_without_offer(self._parser, self.target, self.headers)
        self._parser = httptools.HttpRequestParser(self)
        self.target, self.headers = b"", []
        try:
            self._parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise InvalidRequest(_NOT_HTTP) from None

    # -- callbacks of httptools ------------------------------------------------------------------------------------

    def on_url(self, part: bytes) -> None:
        """Add a part of the target. Refuse a second request among the bytes that were fed."""
        if self.headed:
            raise RefusedError
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head. A header behind the body is a trailer: count and drop it."""
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
            self._body_left = int(value)  # httptools has checked that it is a number
        elif name == b"transfer-encoding":
            self._chunked = True

    def on_headers_complete(self) -> None:
        """Note a complete head, unless it offers an upgrade and will be parsed again without it."""
        parser = self._parser
        if parser.should_upgrade():
            return
        self.headed = True
        self.method = parser.get_method().decode("ascii")
        self.version = parser.get_http_version()
        self.keep_alive = self.version != "1.0" and parser.should_keep_alive()
        self.expects_100 = self.expects_100 and self.version != "1.0"  # HTTP/1.0 has no interim answers

    def on_message_complete(self) -> None:
        """Note a complete body. After an offered upgrade httptools calls this before the body has begun."""
        self.whole = self.headed
