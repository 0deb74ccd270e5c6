"""Rows of the records table: a Record's values in the order of the table's columns, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from app.domain.records import HTTP, CostSource, Outcome, Record, UsageSource
from app.store.schema.tables import records

Row = tuple[Any, ...]

OUTCOME_AT = 5
"""Where the outcome stands in a row."""

COLUMNS = tuple(column.name for column in records.c)
"""The names of a row's values."""

SUMS = slice(6, 13)
"""The tokens, and at last the cost."""

_AMENDED_PART = slice(4, 16)  # from the model served to the price
_COST_DETAIL_AT, _HELD_AT = map(COLUMNS.index, ("cost_detail", "held"))

AMENDED_COLUMNS = (*COLUMNS[_AMENDED_PART], COLUMNS[_COST_DETAIL_AT], COLUMNS[_HELD_AT])
"""What an amendment may change (the outcome among it stays as it is)."""

_SERVED_AT, _COST_AT, _USAGE_SOURCE_AT = 4, 12, 13

_LARGEST = 2**63 - 1


class Rows(NamedTuple):
    """What one transaction writes, in this order: calls still open, settled ones, and what the books say of those."""

    open: Sequence[Row] = ()
    settled: Sequence[Row] = ()
    amended: Sequence[Row] = ()


def row_of(record: Record) -> Row:
    """The row that stores `record`. Enums become plain text here: as they are, the driver takes 1 us for each."""
    cost_source = record.cost_source
    return (
        record.request_id,
        record.started_at,
        record.client,
        record.model_requested,
        record.model_served,
        str(record.outcome),
        record.input_tokens,
        record.cached_input_tokens,
        record.cache_write_tokens,
        record.output_tokens,
        record.reasoning_tokens,
        record.total_tokens,
        record.cost_nanousd,
        str(record.usage_source),
        None if cost_source is None else str(cost_source),
        record.price,
        record.finished_at,
        record.key_id,
        record.upstream,
        record.path,
        record.method,
        record.stream,
        record.http_status,
        record.response_id,
        record.generation_id,
        record.retry_count,
        record.bytes_in,
        record.bytes_out,
        record.time_to_first_byte_ms,
        record.duration_ms,
        record.error_type,
        record.background or None,
        None if record.transport == HTTP else record.transport,
        record.upstream_key,
        record.error_detail,
        record.cost_detail,
        record.upstream_request_id,
        record.tries,
        record.session,
        record.program,
        record.tags,
        record.phases_ms,
        record.demo or None,
        record.held or None,
    )


def open_row_of(record: Record) -> Row:
    """The row of a call that is still open, whatever its exchange has already written into the record.

    It counts for its worst case, if that is known, marked as an estimate: what it is if we die before it ends.
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


def settled_by_books(row: Row) -> bool:
    """Whether this is what upstream's books say of a call; nothing else may amend a row."""
    numbers = all(value is None or type(value) is int for value in row[SUMS])
    return numbers and row[_USAGE_SOURCE_AT] == str(UsageSource.SETTLED)


def id_floor(microseconds: int) -> str:
    """No call that began at or after this time has a smaller id, and none of an earlier millisecond a greater one."""
    return f"req_{max(microseconds, 0) // 1000:012x}"


def amended_row(before: Row, books: Row) -> Row:
    """The row with the tokens and the cost of `books` in place of its own. What those do not know stays as it was.

    The model served is taken where it was not known: in mid-answer nobody may have named it.
    """
    sums = [old if new is None else new for old, new in zip(before[SUMS], books[SUMS], strict=True)]
    cost_from = before if books[_COST_AT] is None else books
    source_and_price = cost_from[_USAGE_SOURCE_AT + 1 : _AMENDED_PART.stop]
    served = before[_SERVED_AT] or books[_SERVED_AT]
    begin = (*before[:_SERVED_AT], served, before[OUTCOME_AT])
    after = [*begin, *sums, books[_USAGE_SOURCE_AT], *source_and_price, *before[_AMENDED_PART.stop :]]
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
    values["stream"] = bool(values["stream"])
    values["background"] = bool(values["background"])
    values["transport"] = HTTP if values["transport"] is None else values["transport"]
    values["demo"] = bool(values["demo"])
    values["held"] = bool(values["held"])
    return Record(**values)


def mended(row: Row) -> Row:
    """The row with every value such that a database takes it.

    Lone surrogates (JSON may hold them) become `?`; a number over 64 bits, which cannot be true, becomes unknown.
    """
    return tuple(_mended_value(value) for value in row)


def _mended_value(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and abs(value) > _LARGEST:
        return None
    return value
