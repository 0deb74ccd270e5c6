"""What limits say of themselves in the head of an answer.

    x-ratelimit-limit-requests: 60      x-ratelimit-remaining-requests: 59     x-ratelimit-reset-requests: 1m0s
    x-ratelimit-limit-tokens: ...       the same of tokens; names and forms are OpenAI's
    ratelimit-policy: "requests";q=60;w=60, "tokens";q=100000;w=60            the IETF's draft for HTTP at large
    ratelimit: "requests";r=59;t=60, "tokens";r=68000;t=60

Seconds are rounded up, to 60 at the most. Of two rates of a kind, the client's and its group's, the one with less
left is told.
"""

import re
from collections.abc import Sequence

from app.gateway.answer_head import Values
from app.gateway.limits import Limit, RateReading
from app.gateway.ports import Headers

LONGEST_SECONDS = 60
"""Rates are by the minute, and the OpenAI SDK for Node does not believe a longer `retry-after`."""

_SECOND_NS = 1_000_000_000
_MILLISECOND_NS = 1_000_000
_OPENAI_PREFIX = b"x-ratelimit-"
_RATES = re.compile(rb"^(?:x-)?ratelimit", re.MULTILINE)


def limit_headers(readings: Sequence[RateReading]) -> Headers:
    """The headers for these rates; none for none."""
    headers: Headers = []
    policies, rests = [], []
    for kind, limit, remaining, reset_ns in _tightest(readings):
        limit_name, remaining_name, reset_name, policy, rest = _OF_REQUESTS if kind is Limit.REQUESTS else _OF_TOKENS
        seconds = min(-(-reset_ns // _SECOND_NS), LONGEST_SECONDS)
        headers += (
            (limit_name, b"%d" % limit),
            (remaining_name, b"%d" % remaining),
            (reset_name, span(reset_ns)),
        )
        policies.append(policy % limit)
        rests.append(rest % (remaining, seconds))
    if policies:
        headers += ((b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(rests)))
    return headers


def add_limit_headers(headers: Headers, values: Values, readings: Sequence[RateReading]) -> None:
    """Add ours to an upstream's head. What upstream says of its own rates stays, and is not mixed with ours."""
    ours = limit_headers(readings)
    if _RATES.search(b"\n".join(values)) is not None:
        openai_taken = any(name.startswith(_OPENAI_PREFIX) for name in values)
        ours = [h for h in ours if h[0] not in values and not (openai_taken and h[0].startswith(_OPENAI_PREFIX))]
    headers += ours


def retry_after(wait_ns: int) -> tuple[str, str]:
    """When to come again, in whole seconds."""
    return "retry-after", str(min(max(1, -(-wait_ns // _SECOND_NS)), LONGEST_SECONDS))


def span(nanoseconds: int) -> bytes:
    """A span as OpenAI writes it: 250ms, 8s, 1m0s."""
    if nanoseconds <= _SECOND_NS - _MILLISECOND_NS:
        return b"%dms" % -(-nanoseconds // _MILLISECOND_NS)
    seconds = -(-nanoseconds // _SECOND_NS)
    return b"%ds" % seconds if seconds < LONGEST_SECONDS else b"1m0s"


def _tightest(readings: Sequence[RateReading]) -> list[RateReading]:
    """One of each kind, requests first: the one with less left."""
    requests = tokens = None
    for reading in readings:
        if reading.kind is Limit.REQUESTS:
            if requests is None or reading.remaining < requests.remaining:
                requests = reading
        elif tokens is None or reading.remaining < tokens.remaining:
            tokens = reading
    return [reading for reading in (requests, tokens) if reading is not None]


def _forms(kind: str) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    names = (f"x-ratelimit-{what}-{kind}".encode("ascii") for what in ("limit", "remaining", "reset"))
    limit, remaining, reset = names
    return limit, remaining, reset, b'"%b";q=%%d;w=60' % kind.encode(), b'"%b";r=%%d;t=%%d' % kind.encode()


_OF_REQUESTS, _OF_TOKENS = _forms("requests"), _forms("tokens")
