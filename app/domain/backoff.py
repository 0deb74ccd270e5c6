"""Waiting times between attempts: they double, with jitter so that many callers do not come at once."""

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
SPREAD = 0.25
_DOUBLINGS = 6  # 64 s: beyond the longest


def backoff_seconds(attempts: int, chance: float) -> float:
    """The wait after so many attempts: 1 s, 2, 4 ... 60, each up to a quarter more or less by `chance` (0 to 1)."""
    planned = min(FIRST_SECONDS * 2.0 ** min(attempts, _DOUBLINGS), LONGEST_SECONDS)
    return planned * (1 + SPREAD * (2 * chance - 1))
