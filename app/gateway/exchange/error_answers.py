"""Upstream's error answers: some are replaced because of their status; 4xx and 5xx are collected and then judged."""

import orjson

from app.domain.answer.error_code import error_message, error_word
from app.domain.answer.sse import BYTE_ORDER_MARK
from app.domain.errors import (
    UpstreamAuthFailed,
    UpstreamErrorReplaced,
    UpstreamFault,
    UpstreamProtocolError,
    UpstreamRedirected,
)
from app.domain.headers import Headers, value_of
from app.domain.records import Record
from app.gateway.exchange.answer_coding import AnswerDecoder, DamagedError, UnreadableError, begins_as_text, is_plain
from app.gateway.exchange.key_guard import KeyGuard
from app.gateway.ports import Downstream

MAX_ERROR_BYTES = 1024 * 1024
_HTML = (b"<!doctype", b"<html")


def refusal_of(status: int) -> UpstreamFault | None:
    """The error to send instead of an answer with this status; None for 4xx and 5xx, which may pass."""
    if status == 401:
        return UpstreamAuthFailed(
            "Upstream does not accept this server's key (HTTP 401). The operator of this server must replace the key.",
            detail="Upstream answered HTTP 401: it does not accept this server's key.",
        )
    if status < 400:
        return UpstreamRedirected(f"Upstream answered with a redirect (HTTP {status}), which is not followed.")
    if status >= 600:
        return UpstreamProtocolError(f"Upstream answered with an unknown status (HTTP {status}).")
    return None


class ErrorAnswer:
    """One error answer. 4xx and JSON 5xx pass unchanged; HTML pages and what holds the upstream key do not.

    It replaces the key watch of the answer: no chunk passes before the whole body is judged.
    """

    held = False

    __slots__ = ("_parts", "_size", "error_code", "headers", "message", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.error_code = "upstream_error"  # upstream's own code, once judged
        self.message: str | None = None
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(self._parts)

    def screen(self, chunk: bytes) -> bytes | None:
        """Keep a chunk; nothing passes yet. None if the answer is too large."""
        self._size += len(chunk)
        if self._size > MAX_ERROR_BYTES:
            return None
        self._parts.append(chunk)
        return b""

    def release(self) -> bytes:
        """Nothing: send() passes the body on."""
        return b""

    def judge(self, guard: KeyGuard) -> UpstreamErrorReplaced | None:
        """The error to send instead; None if this one may pass. Headers that hold the key are removed."""
        self.headers = [header for header in self.headers if not guard.found_in(header[1])]
        why = self._unfit(guard)
        if why is None:
            return None
        return UpstreamErrorReplaced(f"Upstream answered with an error (HTTP {self.status}) not shown here: {why}.")

    def _unfit(self, guard: KeyGuard) -> str | None:
        """Why it may not pass, if so. Sets `error_code` and `message`."""
        text = b"" if self._size > MAX_ERROR_BYTES else self._decoded()
        if text is None:
            return "it does not decode by its Content-Encoding"
        if max(self._size, len(text)) > MAX_ERROR_BYTES:
            return "more than a megabyte of it"
        if guard.found_in(text):
            return "it holds what must not be passed on"
        try:
            value = orjson.loads(text.removeprefix(BYTE_ORDER_MARK))
        except ValueError:
            value = None
        if isinstance(value, dict):
            self.error_code = error_word(value) or self.error_code
            self.message = error_message(value)
            return None
        content_type = (value_of(self.headers, b"content-type") or b"").lower()
        if self.status >= 500 or b"html" in content_type or text.lstrip()[:9].lower().startswith(_HTML):
            return "it is not JSON"
        return None

    def describe(self, record: Record) -> None:
        """Write into the record what the client gets."""
        record.http_status = self.status
        record.error_type = self.error_code
        record.error_detail = self.message or f"Upstream answered HTTP {self.status}."
        record.bytes_out = self._size

    def _decoded(self) -> bytes | None:
        """The body without its content coding; None if the coding is unknown, damaged or cut."""
        coding = value_of(self.headers, b"content-encoding")
        if coding is None or is_plain(coding):
            return self.body
        decoder = AnswerDecoder(coding)
        try:
            text = decoder.feed(self.body)
        except UnreadableError:
            return None
        except DamagedError:
            return self.body if begins_as_text(self.body) else None
        return text if decoder.whole else None

    def send(self, downstream: Downstream) -> None:
        """Pass it on unchanged."""
        downstream.start(self.status, self.headers)
        downstream.body(self.body)
        downstream.finish()
