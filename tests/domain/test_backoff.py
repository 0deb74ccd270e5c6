"""Waiting times double, stay within their bounds, and spread by chance."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.backoff import LONGEST_SECONDS, SPREAD, backoff_seconds

CHANCES = st.floats(0, 1)


def test_they_double_until_the_longest() -> None:
    assert [backoff_seconds(attempts, 0.5) for attempts in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@given(st.integers(0, 10**9), CHANCES)
def test_they_stay_within_bounds(attempts: int, chance: float) -> None:
    assert 1 - SPREAD <= backoff_seconds(attempts, chance) <= LONGEST_SECONDS * (1 + SPREAD)


@given(CHANCES)
def test_whatever_the_chance_they_never_shrink(chance: float) -> None:
    waits = [backoff_seconds(attempts, chance) for attempts in range(20)]
    assert all(before <= after for before, after in pairwise(waits))


@pytest.mark.parametrize("attempts", [0, 3, 40])
def test_chance_moves_them_both_ways(attempts: int) -> None:
    planned = backoff_seconds(attempts, 0.5)
    assert backoff_seconds(attempts, 0) == planned * (1 - SPREAD)
    assert backoff_seconds(attempts, 1) == planned * (1 + SPREAD)
