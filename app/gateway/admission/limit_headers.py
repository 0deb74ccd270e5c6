"""The headers that tell a client its rates.

    x-ratelimit-limit-requests: 60      x-ratelimit-remaining-requests: 59     x-ratelimit-reset-requests: 1m0s
    x-ratelimit-limit-tokens: ...       the same of tokens; names and forms are OpenAI's
    ratelimit-policy: "requests";q=60;w=60, "tokens";q=100000;w=60            the IETF's draft for HTTP at large
    ratelimit: "requests";r=59;t=60, "tokens";r=68000;t=60

Seconds are rounded up, to 60 at most. Of a client's rate and its group's, the headers tell the one with less left.
"""

from collections.abc import Sequence
from functools import lru_cache

from app.domain.headers import Headers
from app.gateway.exchange.answer_head import Values
from app.gateway.limiter import Limit, RateReading

LONGEST_SECONDS = 60
"""Rates are by the minute, and the OpenAI SDK for Node ignores a longer `retry-after`."""

_SECOND_NS = 1_000_000_000
_MILLISECOND_NS = 1_000_000
_OPENAI_PREFIX = b"x-ratelimit-"


def limit_headers(readings: Sequence[RateReading]) -> Headers:
    """The headers for these rates."""
    requests, tokens = _tightest(readings)
    if requests is not None and tokens is not None:
        _, rpm, of_requests, requests_ns = requests
        _, tpm, of_tokens, tokens_ns = tokens
        at_s, at = span(requests_ns)
        then_s, then = (at_s, at) if tokens_ns == requests_ns else span(tokens_ns)
        return [
            (_REQUESTS_REMAINING, b"%d" % of_requests),
            (_REQUESTS_RESET, at),
            (_TOKENS_REMAINING, b"%d" % of_tokens),
            (_TOKENS_RESET, then),
            *_of_limits(rpm, tpm),
            (b"ratelimit", _BOTH % (of_requests, at_s, of_tokens, then_s)),
        ]
    if requests is not None:
        _, rpm, left, wait_ns = requests
        seconds, reset = span(wait_ns)
        found = (_REQUESTS_REMAINING, b"%d" % left), (_REQUESTS_RESET, reset)
        return [*found, *_of_limits(rpm, None), (b"ratelimit", _REQUESTS % (left, seconds))]
    if tokens is not None:
        _, tpm, left, wait_ns = tokens
        seconds, reset = span(wait_ns)
        found = (_TOKENS_REMAINING, b"%d" % left), (_TOKENS_RESET, reset)
        return [*found, *_of_limits(None, tpm), (b"ratelimit", _TOKENS % (left, seconds))]
    return []


@lru_cache(maxsize=1024)
def _of_limits(rpm: int | None, tpm: int | None) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that stay the same from call to call."""
    limits = [(kind, limit) for kind, limit in (("requests", rpm), ("tokens", tpm)) if limit is not None]
    headers = [(f"x-ratelimit-limit-{kind}".encode(), b"%d" % limit) for kind, limit in limits]
    policy = ", ".join(f'"{kind}";q={limit};w=60' for kind, limit in limits)
    return (*headers, (b"ratelimit-policy", policy.encode()))


def add_limit_headers(headers: Headers, values: Values, readings: Sequence[RateReading]) -> None:
    """Add our headers to an upstream's head. Upstream's own rate headers stay, and ours do not mix with them."""
    ours = limit_headers(readings)
    if b"\n".join(values).find(b"ratelimit") >= 0:
        openai_taken = any(name.startswith(_OPENAI_PREFIX) for name in values)
        ours = [h for h in ours if h[0] not in values and not (openai_taken and h[0].startswith(_OPENAI_PREFIX))]
    headers += ours


def retry_after(wait_ns: int) -> tuple[str, str]:
    """The `retry-after` header."""
    return "retry-after", str(min(max(1, -(-wait_ns // _SECOND_NS)), LONGEST_SECONDS))


def span(nanoseconds: int) -> tuple[int, bytes]:
    """A span in whole seconds, and as OpenAI writes it: 250ms, 8s, 1m0s."""
    seconds = -(-nanoseconds // _SECOND_NS)
    if seconds >= LONGEST_SECONDS:
        return LONGEST_SECONDS, b"1m0s"
    if nanoseconds > _SECOND_NS - _MILLISECOND_NS:
        return seconds, b"%ds" % seconds
    return seconds, b"%dms" % -(-nanoseconds // _MILLISECOND_NS)


def _tightest(readings: Sequence[RateReading]) -> tuple[RateReading | None, RateReading | None]:
    """For requests and for tokens, the rate with less left: the client's or its group's."""
    requests = tokens = None
    for reading in readings:
        if reading.kind is Limit.REQUESTS:
            if requests is None or reading.remaining < requests.remaining:
                requests = reading
        elif tokens is None or reading.remaining < tokens.remaining:
            tokens = reading
    return requests, tokens


_REQUESTS_REMAINING, _REQUESTS_RESET = b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"
_TOKENS_REMAINING, _TOKENS_RESET = b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"
_REQUESTS, _TOKENS = b'"requests";r=%d;t=%d', b'"tokens";r=%d;t=%d'
_BOTH = _REQUESTS + b", " + _TOKENS
