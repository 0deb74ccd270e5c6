"""Printing: JSON and CSV for programs, aligned columns for people. Data goes to stdout."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """One document, indented."""
    print("\n".join(map(visible, json.dumps(value, indent=2, ensure_ascii=False).split("\n"))))


def visible(text: str) -> str:
    """The text with all control characters and line ends escaped as in JSON, so that a terminal does not obey them.

    Names of models come from untrusted sources. JSON stays valid and equal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def whole_seconds(value: object) -> object:
    """A time without its fraction of a second; anything else as it is."""
    return f"{value[:19]}Z" if isinstance(value, str) and value[4:5] == "-" and value[10:11] == "T" else value


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: frozenset[str] = frozenset()
) -> None:
    """Print columns divided by spaces, whatever the terminal's width. `numbers` are aligned to the right."""
    TableOutput(columns, numbers=numbers).write(rows)


class TableOutput:
    """A table that is printed piece by piece. Columns grow as wider pieces come."""

    def __init__(self, columns: Sequence[str], *, numbers: frozenset[str] = frozenset()) -> None:
        self._columns = columns
        self._numbers = numbers
        self._widths = [len(name) for name in columns]
        self._begun = False

    def write(self, rows: Sequence[Sequence[object]]) -> None:
        """Print rows. The names of the columns come before the first ones."""
        shown = [[_cell(cell) for cell in row] for row in rows]
        self._widths = [max(width, *(len(cells[i]) for cells in shown), 0) for i, width in enumerate(self._widths)]
        for cells in shown if self._begun else ([name.upper().replace("_", " ") for name in self._columns], *shown):
            pairs = zip(self._columns, cells, self._widths, strict=True)
            line = "  ".join(
                cell.rjust(width) if name in self._numbers else cell.ljust(width) for name, cell, width in pairs
            )
            print(line.rstrip())
        self._begun = True


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return visible(str(value))


class CsvOutput:
    """CSV on stdout. Prints the header at once. Values are written as in JSON, text without quotes."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._writer = csv.DictWriter(sys.stdout, list(columns))
        self._writer.writeheader()

    def write(self, row: Mapping[str, object]) -> None:
        """Print one row."""
        self._writer.writerow({name: _csv_cell(value) for name, value in row.items()})


def _csv_cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula: names of models come from untrusted sources."""
    if isinstance(value, bool | dict | list):
        return json.dumps(value)
    if not isinstance(value, str):
        return value
    return visible(f"'{value}" if value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value)
