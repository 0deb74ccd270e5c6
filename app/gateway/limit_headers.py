"""What limits say of themselves in the head of an answer.

    x-ratelimit-limit-requests: 60      x-ratelimit-remaining-requests: 59     x-ratelimit-reset-requests: 1m0s
    x-ratelimit-limit-tokens: ...       the same of tokens; names and forms are OpenAI's
    ratelimit-policy: "requests";q=60;w=60, "tokens";q=100000;w=60            the IETF's draft for HTTP at large
    ratelimit: "requests";r=59;t=60, "tokens";r=68000;t=60

Seconds are rounded up, to 60 at the most. Of two rates of a kind, the client's and its group's, the one with less
left is told.
"""

from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter

from app.domain.headers import Headers
from app.gateway.answer_head import Values
from app.gateway.limits import Limit, RateReading

LONGEST_SECONDS = 60
"""Rates are by the minute, and the OpenAI SDK for Node does not believe a longer `retry-after`."""

_SECOND_NS = 1_000_000_000
_MILLISECOND_NS = 1_000_000
_OPENAI_PREFIX = b"x-ratelimit-"
_remaining = attrgetter("remaining")


def limit_headers(readings: Sequence[RateReading]) -> Headers:
    """The headers for these rates; none for none."""
    headers: Headers = []
    requests = tokens = None
    rests = reset = b""
    at_ns, seconds = -1, 0
    for kind, limit, remaining, reset_ns in _tightest(readings):
        if kind is Limit.REQUESTS:
            requests, (of_remaining, of_reset, rest) = limit, _OF_REQUESTS
        else:
            tokens, (of_remaining, of_reset, rest) = limit, _OF_TOKENS
        if reset_ns != at_ns:
            at_ns, (seconds, reset) = reset_ns, span(reset_ns)
        headers += ((of_remaining, b"%d" % remaining), (of_reset, reset))
        rests += (b", " + rest if rests else rest) % (remaining, seconds)
    if headers:
        headers += (*_of_limits(requests, tokens), (b"ratelimit", rests))
    return headers


@lru_cache(maxsize=1024)
def _of_limits(requests: int | None, tokens: int | None) -> Headers:
    """Those that stay the same from call to call: what the limits are."""
    limits = [(kind, limit) for kind, limit in (("requests", requests), ("tokens", tokens)) if limit is not None]
    headers = [(f"x-ratelimit-limit-{kind}".encode(), b"%d" % limit) for kind, limit in limits]
    return [*headers, (b"ratelimit-policy", ", ".join(f'"{kind}";q={limit};w=60' for kind, limit in limits).encode())]


def add_limit_headers(headers: Headers, values: Values, readings: Sequence[RateReading]) -> None:
    """Add ours to an upstream's head. What upstream says of its own rates stays, and is not mixed with ours."""
    ours = limit_headers(readings)
    if b"\n".join(values).find(b"ratelimit") >= 0:
        openai_taken = any(name.startswith(_OPENAI_PREFIX) for name in values)
        ours = [h for h in ours if h[0] not in values and not (openai_taken and h[0].startswith(_OPENAI_PREFIX))]
    headers += ours


def retry_after(wait_ns: int) -> tuple[str, str]:
    """When to come again, in whole seconds."""
    return "retry-after", str(min(max(1, -(-wait_ns // _SECOND_NS)), LONGEST_SECONDS))


def span(nanoseconds: int) -> tuple[int, bytes]:
    """A span in whole seconds, and as OpenAI writes it: 250ms, 8s, 1m0s."""
    seconds = -(-nanoseconds // _SECOND_NS)
    if seconds >= LONGEST_SECONDS:
        return LONGEST_SECONDS, b"1m0s"
    if nanoseconds > _SECOND_NS - _MILLISECOND_NS:
        return seconds, b"%ds" % seconds
    return seconds, b"%dms" % -(-nanoseconds // _MILLISECOND_NS)


def _tightest(readings: Sequence[RateReading]) -> Sequence[RateReading]:
    """One of each kind, requests first: the one with less left."""
    if len(readings) < 2 or (
        len(readings) == 2 and readings[0].kind is Limit.REQUESTS and readings[1].kind is Limit.TOKENS
    ):
        return readings
    found: list[RateReading] = []
    for kind in (Limit.REQUESTS, Limit.TOKENS):
        of_kind = [reading for reading in readings if reading.kind is kind]
        if of_kind:
            found.append(min(of_kind, key=_remaining))
    return found


def _forms(kind: bytes) -> tuple[bytes, bytes, bytes]:
    return b"x-ratelimit-remaining-" + kind, b"x-ratelimit-reset-" + kind, b'"%b";r=%%d;t=%%d' % kind


_OF_REQUESTS, _OF_TOKENS = _forms(b"requests"), _forms(b"tokens")
