"""A second opinion on what an HTTP answer says: slow, strict about framing, and written without looking at the wire."""

from dataclasses import dataclass

_HEX = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True)
class StrictAnswer:
    """`used_bytes` is where the answer ends, interim ones and line ends before it included; None without a framing."""

    status: int
    body: bytes
    used_bytes: int | None


def read_strictly(sent: bytes) -> StrictAnswer | None:
    """The first final answer in `sent`, or None when there is no whole one."""
    at = 0
    while True:
        while sent[at : at + 1] in (b"\r", b"\n"):
            at += 1
        end = sent.find(b"\r\n\r\n", at)
        if end < 0:
            return None
        status_line, *lines = sent[at:end].split(b"\r\n")
        at = end + 4
        if status_line[:7] != b"HTTP/1." or not status_line[9:12].isdigit():
            return None
        status = int(status_line[9:12])
        if status >= 200:
            return _read_body(sent, at, status, [line.partition(b":") for line in lines])


def _read_body(sent: bytes, at: int, status: int, headers: list[tuple[bytes, bytes, bytes]]) -> StrictAnswer | None:
    lengths = [value.strip(b" \t") for name, _, value in headers if name.lower() == b"content-length"]
    codings = [value.strip(b" \t").lower() for name, _, value in headers if name.lower() == b"transfer-encoding"]
    if status in (204, 304):
        return StrictAnswer(status, b"", at)
    if codings:
        return _read_chunks(sent, at, status) if codings == [b"chunked"] and not lengths else None
    if not lengths:
        return StrictAnswer(status, sent[at:], None)
    if len(lengths) > 1 or not lengths[0].isdigit() or at + int(lengths[0]) > len(sent):
        return None
    end = at + int(lengths[0])
    return StrictAnswer(status, sent[at:end], end)


def _read_chunks(sent: bytes, at: int, status: int) -> StrictAnswer | None:
    body = b""
    while True:
        line_end = sent.find(b"\r\n", at)
        digits = sent[at:line_end].partition(b";")[0]
        if line_end < 0 or not digits or not set(digits) <= _HEX:
            return None
        size, at = int(digits, 16), line_end + 2
        if size == 0:
            return _after_trailers(sent, at, status, body)
        if sent[at + size : at + size + 2] != b"\r\n":
            return None
        body += sent[at : at + size]
        at += size + 2


def _after_trailers(sent: bytes, at: int, status: int, body: bytes) -> StrictAnswer | None:
    while True:
        line_end = sent.find(b"\r\n", at)
        if line_end < 0:
            return None
        if line_end == at:
            return StrictAnswer(status, body, at + 2)
        at = line_end + 2
