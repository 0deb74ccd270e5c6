"""How fast a request body must arrive."""

from collections import deque

MIN_BYTES_PER_SECOND = 8 * 1024
LONGEST_SECONDS = 15 * 60.0
TOO_SLOW = (
    f"The request came too slowly. A body must arrive at {MIN_BYTES_PER_SECOND} bytes a second or more, "
    f"and be complete within {LONGEST_SECONDS / 60:g} minutes."
)


class BodyPace:
    """Checks that a body is fast enough over any `window` seconds, and does not take too long in all.

    The reader adds to `received` the bytes that have arrived. Times are the loop's, in seconds.
    """

    __slots__ = ("_began", "_marks", "_window", "received")

    def __init__(self, now: float, window: float) -> None:
        self.received = 0
        self._began = now
        self._window = window
        self._marks = deque([(now, 0)])  # (time, bytes received by then)

    def is_too_slow(self, now: float) -> bool:
        """Whether the body breaks one of the two rules. To be called at regular intervals."""
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now - self._window:
            marks.popleft()
        since, before = marks[0]
        marks.append((now, self.received))
        if now - self._began > LONGEST_SECONDS:
            return True
        return now - since >= self._window and self.received - before < MIN_BYTES_PER_SECOND * (now - since)

    def excuse(self, now: float) -> None:
        """Begin a new window, because we did not read."""
        self._marks.clear()
        self._marks.append((now, self.received))
