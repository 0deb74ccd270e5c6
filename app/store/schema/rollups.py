"""Roll-ups: what settled rows add to the hourly sums. Rows and sums are written in one transaction.

A record belongs to the hour in which it began. Kinds of outcome are `completed`, `rejected` and `other`.
"""

from collections.abc import Iterable
from typing import Any

from app.domain.records import Outcome
from app.store.schema.rows import COLUMNS, OUTCOME_AT, SUMS, Row

HOUR_MICROSECONDS = 3_600_000_000
DAY_MICROSECONDS = 24 * HOUR_MICROSECONDS

LARGEST_SUM = 2**56
"""Where a sum stops growing. Real sums stay far below; one absurd number must not overflow everybody's reports."""

_INPUT_AT, _OUTPUT_AT, _COST_AT, _UPSTREAM_AT = map(
    COLUMNS.index, ("input_tokens", "output_tokens", "cost_nanousd", "upstream")
)
_SUM_COUNT = len(COLUMNS[SUMS])
_KINDS = {str(kind): str(kind) for kind in (Outcome.COMPLETED, Outcome.REJECTED)}
OTHER = "other"

Key = tuple[int, str, str, str, str]
"""begins_at, client, model, upstream, kind: the primary key of the table."""

RollUp = tuple[Any, ...]
"""A row of either table: the key, and what it adds."""


class Additions:
    """What a transaction adds to the roll-ups: one line for each key."""

    def __init__(self) -> None:
        self._lines: dict[Key, _Line] = {}
        self.left: set[Key] = set()  # lines that a record has left for another's: they may have nothing to add up now

    def add(self, rows: Iterable[Row]) -> None:
        """Count rows that were settled just now, for the first time."""
        for row in rows:
            line = self._line_of(row)
            line.count(row, 1)
            for place, value in enumerate(row[SUMS]):
                if value is not None:
                    line.sums[place] = (line.sums[place] or 0) + value

    def replace(self, before: Row, after: Row) -> None:
        """Count an amended row in place of the earlier one. Its model may have changed."""
        line, old_line = self._line_of(after), self._line_of(before)
        if line is not old_line:
            self.left.add(_key_of(before))
        old_line.count(before, -1)
        line.count(after, 1)
        for place, (old, new) in enumerate(zip(before[SUMS], after[SUMS], strict=True)):
            if new is not None:
                line.sums[place] = (line.sums[place] or 0) + new
            if old is not None:
                old_line.sums[place] = (old_line.sums[place] or 0) - old

    def hours(self) -> list[RollUp]:
        """What the hours grow by."""
        return [(*key, *line.values()) for key, line in self._lines.items()]

    def _line_of(self, row: Row) -> "_Line":
        key = _key_of(row)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        return line


class _Line:
    __slots__ = ("requests", "sums", "unknown_cost", "unknown_usage")

    def __init__(self) -> None:
        self.requests = 0
        self.unknown_usage = 0
        self.unknown_cost = 0
        self.sums: list[int | None] = [None] * _SUM_COUNT

    def count(self, row: Row, times: int) -> None:
        self.requests += times
        if row[OUTCOME_AT] != Outcome.REJECTED:
            self.unknown_usage += times * (row[_INPUT_AT] is None or row[_OUTPUT_AT] is None)
            self.unknown_cost += times * (row[_COST_AT] is None)

    def values(self) -> tuple[int | None, ...]:
        sums = [v if v is None or -LARGEST_SUM <= v <= LARGEST_SUM else _bounded(v) for v in self.sums]
        return (self.requests, self.unknown_usage, self.unknown_cost, *sums)


def hour_of(microseconds: int) -> int:
    """The microsecond in which the hour begins."""
    return microseconds - microseconds % HOUR_MICROSECONDS


def day_of(microseconds: int) -> int:
    """The microsecond in which the day begins, UTC."""
    return microseconds - microseconds % DAY_MICROSECONDS


def _key_of(row: Row) -> Key:
    return hour_of(row[1]), row[2], row[4] or row[3] or "", row[_UPSTREAM_AT], _KINDS.get(row[OUTCOME_AT], OTHER)


def _bounded(value: int) -> int:
    return LARGEST_SUM if value > 0 else -LARGEST_SUM
