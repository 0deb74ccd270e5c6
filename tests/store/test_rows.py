"""A record and its row."""

from dataclasses import fields, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain.money.worst_case import WorstCase
from app.domain.records import Outcome, Record
from app.store.schema.rows import OUTCOME_AT, mended, open_row_of, record_of, row_of
from app.store.schema.tables import IN_PROGRESS, records
from tests.store.samples import Samples

COLUMNS = [column.name for column in records.c]
LARGEST = 2**63 - 1


@given(st.builds(Record))
def test_a_row_is_in_the_order_of_the_columns_and_makes_the_same_record(record: Record) -> None:
    assert record_of(dict(zip(COLUMNS, row_of(record), strict=True))) == record


def test_the_table_has_a_column_for_each_field() -> None:
    # While a call is open: the first stands in the columns of what it came to, and the others are priced by.
    passing = {"worst_case", "service_tier", "max_output_tokens"}
    assert sorted(COLUMNS) == sorted({field.name for field in fields(Record)} - passing)


def test_the_index_of_open_calls_means_their_outcome() -> None:
    assert str(IN_PROGRESS) == f"'{Outcome.IN_PROGRESS}'"
    assert COLUMNS[OUTCOME_AT] == "outcome"


def test_the_row_of_an_open_call_counts_for_its_worst_case() -> None:
    for cost, source in ((7, "estimated"), (None, None)):
        record = replace(Samples().open(), worst_case=WorstCase(30, 12, cost))
        row = dict(zip(COLUMNS, open_row_of(record), strict=True))
        assert (row["input_tokens"], row["output_tokens"], row["total_tokens"]) == (30, 12, 42)
        assert (row["cost_nanousd"], row["cost_source"], row["usage_source"]) == (cost, source, "estimated")
        assert record.total_tokens is None


@given(st.builds(Record))
def test_the_row_of_an_open_call_is_in_progress_whatever_its_exchange_has_written(record: Record) -> None:
    assert open_row_of(record) == row_of(replace(record, outcome=Outcome.IN_PROGRESS))


any_text = st.text(st.characters(exclude_categories=[]))  # lone surrogates among them


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats() | any_text))
def test_mending_touches_only_what_cannot_be_stored(values: list[Any]) -> None:
    for value, after in zip(values, mended(tuple(values)), strict=True):
        if isinstance(value, str):
            after.encode()
            assert len(after) == len(value)
            assert after == value or any("\ud800" <= character <= "\udfff" for character in value)
        elif isinstance(value, int) and abs(value) > LARGEST:
            assert after is None
        else:
            assert after is value
