"""Strain: the event loop is late again and again, so new calls are turned away until it keeps time.

    calm ──late twice in a row──> strained ──in time (under half the bound)──> calm

One slow turn is no strain, and the way back is longer than the way in, so that it does not flutter.
"""

_LATE_LOOKS = 2


class OverloadDetector:
    """`bound_seconds` is how late the loop may be; 0 allows anything."""

    def __init__(self, bound_seconds: float) -> None:
        self._bound = bound_seconds
        self._late = 0
        self._strained = False

    def note(self, lag_seconds: float) -> bool:
        """Take one more look at how late the loop is. True while new calls should be turned away."""
        self._late = self._late + 1 if lag_seconds > self._bound > 0 else 0
        if self._late >= _LATE_LOOKS:
            self._strained = True
        elif lag_seconds <= self._bound / 2:
            self._strained = False
        return self._strained
