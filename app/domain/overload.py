"""Overload: the event loop is late twice in a row, so new calls are refused until it is on time again.

calm ──late twice in a row──> overloaded ──late by less than half the bound──> calm
"""

_LATE_LOOKS = 2


class OverloadDetector:
    """`bound_seconds` is how late the loop may be; 0 switches the detector off."""

    def __init__(self, bound_seconds: float) -> None:
        self._bound = bound_seconds
        self._late = 0
        self._overloaded = False

    def note(self, lag_seconds: float) -> bool:
        """Note how late the loop is. True while new calls should be refused."""
        self._late = self._late + 1 if lag_seconds > self._bound > 0 else 0
        if self._late >= _LATE_LOOKS:
            self._overloaded = True
        elif lag_seconds <= self._bound / 2:
            self._overloaded = False
        return self._overloaded
