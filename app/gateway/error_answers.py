"""Answers that are no success: some are refused by their status; 4xx and 5xx are collected whole, and then judged."""

import orjson

from app.domain.error_code import error_word
from app.domain.errors import (
    UpstreamAuthFailed,
    UpstreamErrorReplaced,
    UpstreamFault,
    UpstreamProtocolError,
    UpstreamRedirected,
)
from app.domain.headers import Headers, value_of
from app.domain.records import Record
from app.gateway.coding import is_plain
from app.gateway.key_guard import KeyGuard
from app.gateway.ports import Downstream

MAX_ERROR_BYTES = 1024 * 1024
_HTML = (b"<!doctype", b"<html")


def refusal_of(status: int) -> UpstreamFault | None:
    """What to answer instead when it is the status that must not pass; None for 4xx and 5xx, which may."""
    if status in {401, 403}:
        return UpstreamAuthFailed(
            f"Upstream refused this call (HTTP {status}): it does not accept this server's key, or its rules forbid "
            "the request. The operator of this server can find out which."
        )
    if status < 400:
        return UpstreamRedirected(f"Upstream answered with a redirect (HTTP {status}), which is not followed.")
    if status >= 600:
        return UpstreamProtocolError(f"Upstream answered with a status that means nothing (HTTP {status}).")
    return None


class ErrorAnswer:
    """One error answer. 4xx and JSON 5xx pass as they are; pages for people and whatever holds the key do not."""

    __slots__ = ("_parts", "_size", "error_code", "headers", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.error_code = "upstream_error"  # upstream's own word for it, once judged
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def body(self) -> bytes:
        """What has come so far."""
        return b"".join(self._parts)

    def collect(self, chunk: bytes) -> bool:
        """Keep a piece. False when the answer is too large to be an error message."""
        self._size += len(chunk)
        if self._size > MAX_ERROR_BYTES:
            return False
        self._parts.append(chunk)
        return True

    def judge(self, guard: KeyGuard) -> UpstreamErrorReplaced | None:
        """The error to send instead, or None when this one may pass."""
        body = self.body
        if self._size > MAX_ERROR_BYTES:
            return self._replaced("more than a megabyte of it")
        if guard.found_in(body) or not is_plain(value_of(self.headers, b"content-encoding")):
            return self._replaced("it holds what must not be passed on")
        try:
            value = orjson.loads(body)
        except ValueError:
            value = None
        if isinstance(value, dict):
            self.error_code = error_word(value) or self.error_code
            return None
        content_type = (value_of(self.headers, b"content-type") or b"").lower()
        if self.status >= 500 or b"html" in content_type or body.lstrip()[:9].lower().startswith(_HTML):
            return self._replaced("it is not JSON")
        return None

    def describe(self, record: Record) -> None:
        """Say in the record what the client gets."""
        record.http_status = self.status
        record.error_type = self.error_code
        record.bytes_out = self._size

    def send(self, downstream: Downstream) -> None:
        """Pass it on as it came."""
        downstream.start(self.status, self.headers)
        downstream.body(self.body)
        downstream.finish()

    def _replaced(self, why: str) -> UpstreamErrorReplaced:
        return UpstreamErrorReplaced(f"Upstream answered with an error (HTTP {self.status}) not shown here: {why}.")
