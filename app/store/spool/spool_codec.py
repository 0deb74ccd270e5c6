"""The spool's format: one line a row, with its kind and a checksum, in ASCII, so that text tools can read it.

    9f1c02ab {"kind":"settled","request_id":"req_...","started_at":1790000000000000,...}

The checksum is the CRC32 of everything after the blank. Values that are null are left out.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from app.store.schema.rows import COLUMNS, Row, Rows

_BEGINNING = re.compile(rb'[0-9a-f]{8} \{"')
"""Where a line can begin. In a JSON text a quote after a brace is escaped, so no value looks like it."""

_KINDS = frozenset(Rows._fields)


class Lines(NamedTuple):
    """What was read from a spool: good rows, and damaged pieces."""

    rows: Rows
    damaged: list[bytes]


def encoded(rows: Rows) -> bytes:
    """The lines of these rows, in the order in which the database would take them."""
    return b"".join(_line(kind, row) for kind, chosen in zip(Rows._fields, rows, strict=True) for row in chosen)


def decoded(lines: Sequence[bytes]) -> Lines:
    """The rows in these lines. A piece is damaged when its checksum is wrong, or when it is no row."""
    rows: dict[str, list[Row]] = {kind: [] for kind in Rows._fields}
    damaged = []
    for piece in _pieces(lines):
        found = _read(piece)
        if found is None:
            damaged.append(piece)
        else:
            rows[found[0]].append(found[1])
    return Lines(Rows(**rows), damaged)


def _line(kind: str, row: Row) -> bytes:
    values = {name: value for name, value in zip(COLUMNS, row, strict=True) if value is not None}
    body = json.dumps({"kind": kind, **values}, separators=(",", ":"), default=str).encode("ascii")
    return b"%08x %b\n" % (crc32(body), body)


def _pieces(lines: Sequence[bytes]) -> Iterator[bytes]:
    """A damaged line is divided where another begins in it: a lost line feed must not cost the line after it."""
    for line in lines:
        rest = line
        while _read(rest) is None and (further := _BEGINNING.search(rest, 1)):
            yield rest[: further.start()]
            rest = rest[further.start() :]
        yield rest


def _read(line: bytes) -> tuple[str, Row] | None:
    checksum, body = line[:9], line[9:-1]
    if checksum != b"%08x " % crc32(body) or not line.endswith(b"\n"):
        return None
    try:
        values = json.loads(body)
        kind = values.pop("kind")
        row = tuple(values.get(name) for name in COLUMNS)
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None
    return (kind, row) if kind in _KINDS else None
