"""Where an answer ends, and how long its connection may idle afterwards."""

from app.domain.errors import UpstreamFault, UpstreamProtocolError
from app.domain.headers import Headers

IDLE_SECONDS = 55.0
"""How long an idle connection is kept. Many load balancers close theirs after 60 s."""

MAX_HEAD_BYTES = 128 * 1024
"""The most bytes of headers, and of reads in a row without a byte of the body; real providers send 1-4 KB."""

MAX_HEADERS = 1000
SMALL_HEAD_BYTES = 4 * MAX_HEADERS
"""A head of no more bytes has neither too many headers nor too long ones: the least header has four."""

HEAD_TOO_LARGE = "Upstream's headers are too large."
NOT_HTTP = "Upstream's answer is not HTTP."
_MARGIN_SECONDS = 1.0
_LONGEST_TIMEOUT_DIGITS = 9
_LINE_ENDS = (b"\r", b"\n", b"")


def ends_exactly(data: bytes, body_bytes: int, *, chunked: bool, answered_before: bool) -> bool:
    """Whether a whole answer ended with the last byte received. llhttp silently skips surplus line ends.

    `data` is the last read, with `body_bytes` of the body; `answered_before`: the head came in an earlier read. False
    if the end is not visible (its line ends are cut in two).
    """
    if chunked:
        return data.endswith(b"\r\n0\r\n\r\n") or data == b"0\r\n\r\n"
    if answered_before:
        return len(data) == body_bytes
    head_bytes = len(data) - body_bytes
    return data.endswith(b"\r\n\r\n", 0, head_bytes) and data[head_bytes - 5 : head_bytes - 4] not in _LINE_ENDS


def idle_seconds(keep_alive: bytes) -> float:
    """How long a connection may idle by `Keep-Alive: timeout=5, max=100`: less than upstream waits."""
    for part in keep_alive.lower().split(b","):
        name, _, value = part.partition(b"=")
        digits = value.strip().strip(b'"')
        if name.strip() == b"timeout" and digits.isdigit() and len(digits) <= _LONGEST_TIMEOUT_DIGITS:
            timeout = float(digits)
            return min(IDLE_SECONDS, timeout - min(_MARGIN_SECONDS, timeout / 2))
    return IDLE_SECONDS


def too_large(headers: Headers, head_bytes: int) -> bool:
    """Are these too many headers, or too long? The head came in no more than `head_bytes`."""
    if len(headers) > MAX_HEADERS:
        return True
    return head_bytes > MAX_HEAD_BYTES and sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES


def fault_of(error: Exception) -> UpstreamFault:
    """The fault that ended the parsing: one that a callback raised, or the parser's."""
    cause = error.__context__
    if isinstance(cause, UpstreamFault):
        return cause
    return UpstreamProtocolError(NOT_HTTP, detail=f"{NOT_HTTP.rstrip('.')}: {error}")
