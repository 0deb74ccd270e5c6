"""What happens upstream when a client leaves before its answer is whole.

auto          an unstreamed call is read to its end: leaving saves nothing there. A stream whose head has not come is
              kept until it has (GRACE_SECONDS at most), since the head names the call in upstream's records; then it
              is closed
cancel        upstream is closed at once
drain         upstream is read to its end, for at most DRAIN_SECONDS
drain:N       the same, for at most N seconds

By auto and cancel, a stream that is nearly done is read on for GRACE_SECONDS.
"""

import re
from dataclasses import dataclass

GRACE_SECONDS = 2.0
DRAIN_SECONDS = 600.0
UNSTREAMED_SECONDS = 3600.0
"""By auto an unstreamed call is given up after this time; upstream's own time-outs mostly end it before."""

_POLICY = re.compile(r"auto|cancel|drain(?::(\d{1,5}))?")

_NEARLY_DONE = (b'.done"', b"[DONE]")
"""The last event passed ended an item or a part of one: what follows, if anything, is the terminal event."""


@dataclass(slots=True, frozen=True)
class DisconnectPolicy:
    """`drain_seconds` is None for auto and cancel; `at_once` tells cancel from auto."""

    drain_seconds: float | None = None
    at_once: bool = False

    @classmethod
    def parse(cls, text: str) -> "DisconnectPolicy":
        """Read `auto`, `cancel`, `drain` or `drain:SECONDS`. Raises ValueError with a sentence for who typed it."""
        word = text.strip().lower()
        found = _POLICY.fullmatch(word)
        if found is None:
            raise ValueError(f"{text[:40]!r} is not a policy: use auto, cancel, drain or drain:SECONDS")
        if word in {"auto", "cancel"}:
            return cls(at_once=word == "cancel")
        return cls(float(found[1]) if found[1] else DRAIN_SECONDS)

    def __str__(self) -> str:
        """As parse() reads it."""
        if self.drain_seconds is None:
            return "cancel" if self.at_once else "auto"
        return "drain" if self.drain_seconds == DRAIN_SECONDS else f"drain:{self.drain_seconds:.0f}"

    def closes_at_head(self, *, stream: bool) -> bool:
        """Whether a call that is left before its head is closed as soon as the head has come."""
        return stream and self.drain_seconds is None

    def wait_seconds(self, *, stream: bool, answering: bool, last_chunk: bytes = b"") -> float:
        """How long upstream is read on when the client leaves.

        Args:
            stream: whether the call asked for a stream.
            answering: whether the answer's head has come.
            last_chunk: what was passed on last; empty when nothing was.

        """
        if self.drain_seconds is not None:
            return self.drain_seconds
        if not self.at_once:
            if not stream:
                return UNSTREAMED_SECONDS
            if not answering:
                return GRACE_SECONDS
        return GRACE_SECONDS if nearly_done(last_chunk) else 0.0


def nearly_done(last_chunk: bytes) -> bool:
    """Was an item finished last? Codex hangs up when its function call is whole, before the terminal event."""
    start = max(last_chunk.rfind(b"\ndata:"), last_chunk.rfind(b"\rdata:"), 0)
    return any(last_chunk.find(mark, start) >= 0 for mark in _NEARLY_DONE)


DEFAULT_POLICY = DisconnectPolicy()
"""auto."""
