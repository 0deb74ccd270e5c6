"""What limits say of themselves in the head of an answer.

    x-ratelimit-limit-requests: 60      x-ratelimit-remaining-requests: 59     x-ratelimit-reset-requests: 1m0.25s
    x-ratelimit-limit-tokens: ...       the same of tokens; names and forms are OpenAI's
    ratelimit-policy: "requests";q=60;w=60, "tokens";q=100000;w=60            the IETF's draft for HTTP at large
    ratelimit: "requests";r=59;t=61, "tokens";r=68000;t=61

Of two rates of a kind, the client's and its group's, the one with less left is told.
"""

import re
from collections.abc import Sequence

from app.gateway.answer_head import Values
from app.gateway.limits import Limit, RateReading
from app.gateway.ports import Headers

LONGEST_RETRY_SECONDS = 60
"""The OpenAI SDK for Node does not believe more."""

_SECOND_NS = 1_000_000_000
_MILLISECOND_NS = 1_000_000
_OPENAI_PREFIX = b"x-ratelimit-"
_RATES = re.compile(rb"^(?:x-)?ratelimit", re.MULTILINE)


def limit_headers(readings: Sequence[RateReading]) -> Headers:
    """The headers for these rates; none for none."""
    shown = _tightest(readings)
    headers: Headers = []
    policies, rests = [], []
    for kind, limit, remaining, reset_ns in shown:
        limit_name, remaining_name, reset_name, policy, rest = _FORMS[kind]
        headers += (
            (limit_name, b"%d" % limit),
            (remaining_name, b"%d" % remaining),
            (reset_name, span_text(reset_ns).encode("ascii")),
        )
        policies.append(policy % limit)
        rests.append(rest % (remaining, -(-reset_ns // _SECOND_NS)))
    if shown:
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
    return "retry-after", str(min(max(1, -(-wait_ns // _SECOND_NS)), LONGEST_RETRY_SECONDS))


def span_text(nanoseconds: int) -> str:
    """A span as OpenAI writes it: 250ms, 8.5s, 1m0.25s."""
    milliseconds = -(-nanoseconds // _MILLISECOND_NS)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    return f"{minutes}m{seconds}{fraction}s" if minutes else f"{seconds}{fraction}s"


def _tightest(readings: Sequence[RateReading]) -> Sequence[RateReading]:
    """One of each kind, requests first: the one with less left."""
    if len(readings) < 2:
        return readings
    found: dict[Limit, RateReading] = {}
    for reading in readings:
        other = found.get(reading.kind)
        if other is None or reading.remaining < other.remaining:
            found[reading.kind] = reading
    return [found[kind] for kind in (Limit.REQUESTS, Limit.TOKENS) if kind in found]


def _forms(kind: str) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    names = (f"x-ratelimit-{what}-{kind}".encode("ascii") for what in ("limit", "remaining", "reset"))
    limit, remaining, reset = names
    return limit, remaining, reset, b'"%b";q=%%d;w=60' % kind.encode(), b'"%b";r=%%d;t=%%d' % kind.encode()


_FORMS = {kind: _forms(kind.value) for kind in (Limit.REQUESTS, Limit.TOKENS)}
