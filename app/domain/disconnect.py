"""What happens upstream when a client leaves before its answer is whole.

auto          an unstreamed call is read to its end, since closing it saves nothing. A stream is closed; if its head
              has not come, it is kept until then (GRACE_SECONDS at most), since the head names the call in upstream's
              records
cancel        upstream is closed at once
drain         upstream is read to its end, for at most DRAIN_SECONDS
drain:N       the same, for at most N seconds

Under auto and cancel, a stream that is nearly done is read on for GRACE_SECONDS.
"""

import re
from dataclasses import dataclass

GRACE_SECONDS = 2.0
DRAIN_SECONDS = 600.0
UNSTREAMED_SECONDS = 3600.0
"""Under auto, an unstreamed call is given up after this time; upstream's own time-outs mostly end it before."""

_POLICY = re.compile(r"auto|cancel|drain(?::(\d{1,5}))?")

_NEARLY_DONE = (b'.done"', b"[DONE]")
"""The last event ended an item or a part of one, so the terminal event is likely next."""


@dataclass(slots=True, frozen=True)
class DisconnectPolicy:
    """`drain_seconds` is None for auto and cancel; `at_once` tells cancel from auto."""

    drain_seconds: float | None = None
    at_once: bool = False

    @classmethod
    def parse(cls, text: str) -> "DisconnectPolicy":
        """Read `auto`, `cancel`, `drain` or `drain:SECONDS`. Raises ValueError with a message for the user."""
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
        """Whether a call whose client left before its head is closed as soon as the head comes."""
        return stream and self.drain_seconds is None

    def wait_seconds(self, *, stream: bool, answering: bool, last_chunk: bytes = b"") -> float:
        """How many seconds upstream is still read when the client leaves.

        Args:
            stream: whether the call asked for a stream.
            answering: whether the answer's head has come.
            last_chunk: the last chunk passed on; empty if there was none.

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
    """Whether the last event finished an item. Codex hangs up after its function call, before the terminal event."""
    start = max(last_chunk.rfind(b"\ndata:"), last_chunk.rfind(b"\rdata:"), 0)
    return any(last_chunk.find(mark, start) >= 0 for mark in _NEARLY_DONE)


DEFAULT_POLICY = DisconnectPolicy()  # auto
