"""Reconciliation: sums that add up, a verdict that does not depend on who is who, differences that cannot hide."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money.reconciliation import MEASURES, Cell, Sheet, Sums, reconcile, sheet_of

COUNTS = st.integers(0, 10**15)
SUMS = st.builds(Sums, COUNTS, COUNTS, COUNTS, COUNTS)
CELLS = st.tuples(st.sampled_from(("2026-11-20", "2026-11-21", "2026-11-22")), st.sampled_from(("a", "b", "c")))
SHEETS = st.dictionaries(CELLS, SUMS, max_size=9)
SHARES = st.fractions(0, 1, max_denominator=1000)
NONE = Fraction(0)


@given(SHEETS)
def test_a_sheet_agrees_with_itself(sheet: Sheet) -> None:
    result = reconcile(sheet, sheet, NONE)
    assert result.within
    assert not result.total.differing()


@given(SHEETS, SHEETS, SHARES)
def test_it_does_not_matter_who_is_who(ours: Sheet, theirs: Sheet, tolerance: Fraction) -> None:
    there, back = reconcile(ours, theirs, tolerance), reconcile(theirs, ours, tolerance)
    assert there.outside == back.outside
    for cell, comparison in there.cells.items():
        for measure in MEASURES:
            assert comparison.difference(measure) == -back.cells[cell].difference(measure)


@given(SHEETS, SHEETS)
def test_days_sum_to_models_and_models_to_the_total(ours: Sheet, theirs: Sheet) -> None:
    result = reconcile(ours, theirs, NONE)
    for measure in MEASURES:
        total = result.total.difference(measure)
        assert total == sum(one.difference(measure) for one in result.cells.values())
        assert total == sum(one.difference(measure) for one in result.models.values())
    assert result.total.ours == sheet_of((("", ""), sums) for sums in ours.values()).get(("", ""), Sums())


@given(SHEETS, SHEETS, SHARES, SHARES)
def test_a_wider_tolerance_forgives_more(ours: Sheet, theirs: Sheet, one: Fraction, other: Fraction) -> None:
    narrow, wide = reconcile(ours, theirs, min(one, other)), reconcile(ours, theirs, max(one, other))
    assert set(wide.outside) <= set(narrow.outside)
    assert wide.within or not narrow.within
    assert reconcile(ours, theirs, Fraction(1)).within


@given(SHEETS, CELLS, st.sampled_from(MEASURES), st.integers(1, 10**6))
def test_one_more_token_or_nano_dollar_is_seen(sheet: Sheet, cell: Cell, measure: str, more: int) -> None:
    known = sheet.get(cell, Sums())
    theirs = {**sheet, cell: known._replace(**{measure: getattr(known, measure) + more})}
    result = reconcile(sheet, theirs, NONE)
    assert result.outside == [cell[1]]
    assert result.total.differing() == [measure]
    assert result.cells[cell].difference(measure) == more


def test_differences_of_two_models_do_not_cancel_out() -> None:
    ours = {("2026-11-22", "a"): Sums(1, 100, 0, 0), ("2026-11-22", "b"): Sums(1, 200, 0, 0)}
    theirs = {("2026-11-22", "a"): Sums(1, 200, 0, 0), ("2026-11-22", "b"): Sums(1, 100, 0, 0)}
    result = reconcile(ours, theirs, Fraction(1, 10))
    assert (result.outside, result.total.differing(), result.within) == (["a", "b"], [], False)


def test_a_call_at_midnight_may_stand_in_either_day() -> None:
    ours = {("2026-11-21", "a"): Sums(1, 100, 7, 9)}
    theirs = {("2026-11-22", "a"): Sums(1, 100, 7, 9)}
    result = reconcile(ours, theirs, NONE)
    assert result.within
    assert [one.difference("input_tokens") for one in result.cells.values()] == [-100, 100]


@pytest.mark.parametrize(
    ("theirs", "within"), [(995, True), (1_000, True), (1_005, True), (1_006, False), (994, False)]
)
def test_the_tolerance_is_a_share_of_the_larger_side(theirs: int, within: bool) -> None:
    cell = ("2026-11-22", "a")
    result = reconcile({cell: Sums(1, 1_000)}, {cell: Sums(1, theirs)}, Fraction(5, 1000))
    assert result.within is within


def test_requests_are_not_judged() -> None:
    cell = ("2026-11-22", "a")
    assert reconcile({cell: Sums(3, 5)}, {cell: Sums(2, 5)}, NONE).within
