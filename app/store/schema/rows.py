"""Rows of the records table: a Record's values in the order of the table's columns, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

from app.domain.records import HTTP, CostSource, Outcome, Record, UsageSource
from app.store.schema.tables import records

Row = tuple[Any, ...]

OUTCOME_AT = 5
"""Where the outcome stands in a row."""

COLUMNS = tuple(column.name for column in records.c)
"""The names of a row's values."""

SUMS = slice(6, 13)
"""The tokens, then the cost."""

_AMENDED_PART = slice(4, 16)  # from the model served to the price
_COST_DETAIL_AT, _HELD_AT = map(COLUMNS.index, ("cost_detail", "held"))

AMENDED_COLUMNS = (*COLUMNS[_AMENDED_PART], COLUMNS[_COST_DETAIL_AT], COLUMNS[_HELD_AT])
"""What an amendment writes. (The outcome is among them and stays.)"""

_SERVED_AT, _COST_AT, _USAGE_SOURCE_AT, _COST_SOURCE_AT = 4, 12, 13, 14
_TRANSPORT_AT = COLUMNS.index("transport")
_TRUE_OR_NULL = tuple(map(COLUMNS.index, ("background", "demo", "held")))
_values_of = attrgetter(*COLUMNS)

_LARGEST = 2**63 - 1


class Rows(NamedTuple):
    """What one transaction writes, in this order: open calls, settled calls, amendments."""

    open: Sequence[Row] = ()
    settled: Sequence[Row] = ()
    amended: Sequence[Row] = ()


def row_of(record: Record) -> Row:
    """The row that stores `record`. Enums become plain text: as they are, the driver takes 1 us for each."""
    row = list(_values_of(record))
    row[OUTCOME_AT] = str(record.outcome)
    row[_USAGE_SOURCE_AT] = str(record.usage_source)
    if record.cost_source is not None:
        row[_COST_SOURCE_AT] = str(record.cost_source)
    if record.transport == HTTP:
        row[_TRANSPORT_AT] = None
    for place in _TRUE_OR_NULL:
        row[place] = row[place] or None
    return tuple(row)


def open_row_of(record: Record) -> Row:
    """The row of a call that is still open, whatever its exchange has already written into the record.

    It counts by its worst case, if that is known, marked as an estimate, in case the process dies before the call ends.
    """
    worst = record.worst_case
    if worst is not None:
        record = replace(record)
        record.count_worst_case(worst)
    row = row_of(record)
    return (*row[:OUTCOME_AT], str(Outcome.IN_PROGRESS), *row[OUTCOME_AT + 1 :])


def interrupted_row_of(record: Record) -> Row:
    """The row of a call whose process was killed. Its end is not known: see `statements.close_interrupted`."""
    row = open_row_of(replace(record, finished_at=record.started_at))
    return (*row[:OUTCOME_AT], str(Outcome.INTERRUPTED), *row[OUTCOME_AT + 1 :])


def is_amendment(row: Row) -> bool:
    """Whether the row comes from upstream's records. Nothing else may amend a row."""
    numbers = all(value is None or type(value) is int for value in row[SUMS])
    return numbers and row[_USAGE_SOURCE_AT] == str(UsageSource.SETTLED)


def id_floor(microseconds: int) -> str:
    """No call that began at or after this time has a smaller id, and none of an earlier millisecond a greater one."""
    return f"req_{max(microseconds, 0) // 1000:012x}"


def amended_row(before: Row, amendment: Row) -> Row:
    """The row with the tokens and the cost of `amendment`. Values that `amendment` does not have stay as they were.

    The served model is taken only where it was unknown, as after an answer that broke off.
    """
    sums = [old if new is None else new for old, new in zip(before[SUMS], amendment[SUMS], strict=True)]
    cost_from = before if amendment[_COST_AT] is None else amendment
    source_and_price = cost_from[_USAGE_SOURCE_AT + 1 : _AMENDED_PART.stop]
    served = before[_SERVED_AT] or amendment[_SERVED_AT]
    begin = (*before[:_SERVED_AT], served, before[OUTCOME_AT])
    after = [*begin, *sums, amendment[_USAGE_SOURCE_AT], *source_and_price, *before[_AMENDED_PART.stop :]]
    after[_COST_DETAIL_AT] = cost_from[_COST_DETAIL_AT]
    after[_HELD_AT] = None
    return tuple(after)


def amended_values(row: Row) -> Row:
    """The values of AMENDED_COLUMNS in a row."""
    return (*row[_AMENDED_PART], row[_COST_DETAIL_AT], row[_HELD_AT])


def record_of(row: Mapping[str, Any]) -> Record:
    """The record that a row, by column names, holds."""
    values = dict(row)
    values["outcome"] = Outcome(values["outcome"])
    values["usage_source"] = UsageSource(values["usage_source"])
    values["cost_source"] = None if values["cost_source"] is None else CostSource(values["cost_source"])
    values["transport"] = HTTP if values["transport"] is None else values["transport"]
    for name in ("stream", "background", "demo", "held"):
        values[name] = bool(values[name])
    return Record(**values)


def mended(row: Row) -> Row:
    """The row with values that every database can store.

    Lone surrogates (JSON may hold them) become `?`. A number over 64 bits, which cannot be true, becomes NULL.
    """
    return tuple(_mended_value(value) for value in row)


def _mended_value(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and abs(value) > _LARGEST:
        return None
    return value
