"""What happens upstream when a client leaves before its answer is whole: cancel, or read on for a while to weigh it.

cancel        upstream is closed at once; a stream that is nearly done is read on for GRACE_SECONDS
drain         upstream is read to its end, for at most DRAIN_SECONDS
drain:N       the same, for at most N seconds
"""

import re
from dataclasses import dataclass

GRACE_SECONDS = 2.0
DRAIN_SECONDS = 600.0

_POLICY = re.compile(r"cancel|drain(?::(\d{1,5}))?")

_NEARLY_DONE = (b'.done"', b"[DONE]")
"""The last event passed ended an item or a part of one: what follows, if anything, is the terminal event."""


@dataclass(slots=True, frozen=True)
class LeavePolicy:
    """`drain_seconds` is None for cancel."""

    drain_seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "LeavePolicy":
        """Read `cancel`, `drain` or `drain:SECONDS`. Raises ValueError with a sentence for the person who typed it."""
        found = _POLICY.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(f"{text[:40]!r} is not a policy: use cancel, drain or drain:SECONDS")
        if text.strip().lower() == "cancel":
            return cls()
        return cls(float(found[1]) if found[1] else DRAIN_SECONDS)

    def __str__(self) -> str:
        """As parse() reads it."""
        if self.drain_seconds is None:
            return "cancel"
        return "drain" if self.drain_seconds == DRAIN_SECONDS else f"drain:{self.drain_seconds:.0f}"

    def wait_seconds(self, last_chunk: bytes) -> float:
        """How long upstream is read on when the client leaves; `last_chunk` was passed last (empty: nothing was)."""
        if self.drain_seconds is not None:
            return self.drain_seconds
        return GRACE_SECONDS if nearly_done(last_chunk) else 0.0


def nearly_done(last_chunk: bytes) -> bool:
    """Was an item finished last? Codex hangs up when its function call is whole, before the terminal event."""
    start = max(last_chunk.rfind(b"\ndata:"), last_chunk.rfind(b"\rdata:"), 0)
    return any(last_chunk.find(mark, start) >= 0 for mark in _NEARLY_DONE)


DEFAULT_POLICY = LeavePolicy()
"""Cancel, with grace for what is nearly done."""
