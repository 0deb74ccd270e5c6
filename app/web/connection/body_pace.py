"""How fast a request body must come."""

from collections import deque

MIN_BYTES_PER_SECOND = 8 * 1024
LONGEST_SECONDS = 15 * 60.0
TOO_SLOW = (
    f"The request came too slowly. A body must come with {MIN_BYTES_PER_SECOND} bytes a second or more, "
    f"and be complete after {LONGEST_SECONDS / 60:g} minutes."
)


class BodyPace:
    """Of one body that takes its time: fast enough over any `window` seconds, and not too long in all.

    `received` counts the bytes that have come; whoever reads them adds to it. Times are the loop's, in seconds.
    """

    __slots__ = ("_began", "_marks", "_window", "received")

    def __init__(self, now: float, window: float) -> None:
        self.received = 0
        self._began = now
        self._window = window
        self._marks = deque([(now, 0)])  # when so many bytes had come

    def is_too_slow(self, now: float) -> bool:
        """Asked every now and then."""
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now - self._window:
            marks.popleft()
        since, before = marks[0]
        marks.append((now, self.received))
        if now - self._began > LONGEST_SECONDS:
            return True
        return now - since >= self._window and self.received - before < MIN_BYTES_PER_SECOND * (now - since)

    def excuse(self, now: float) -> None:
        """Nothing was read, and that was our doing: begin a new window."""
        self._marks.clear()
        self._marks.append((now, self.received))
