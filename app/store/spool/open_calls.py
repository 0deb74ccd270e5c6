"""The table of open calls: a mapped file that says, after a `kill -9`, which calls a process had sent upstream.

    fill() ──> the call goes upstream ──note()──> its ids are known ──> its record is durable ──> clear()

Bytes written to the mapped file belong to the kernel at once, without a system call. They survive the process, but not
a crash of the machine. Each process has its own table. The next process on the same state directory settles the calls
that it finds there (app.store.spool.left_calls).

A slot has two halves. Each holds a line: a checksum, a blank, JSON, a line feed. Before the first stands one byte that
says whether the slot is taken; it is written last.

    0 ......................... 1024 ...................... 2048
    taken | the call            | request id, ids of upstream |

The room is allocated in full. In a sparse file a full disk would end the process with SIGBUS.
"""

import logging
import mmap
import os
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from app.domain.money.worst_case import WorstCase
from app.domain.records import Record
from app.private_files import allocate, open_own, read_own, write_in_place

LOG = logging.getLogger(__name__)

FILE_NAME = "open-calls"
SLOT_BYTES = 2048
HALF_BYTES = SLOT_BYTES // 2

_VERSION = 1
_HEAD = b"weighbridge open calls 1\n"  # in place of the first slot; the number changes with the layout
_TAKEN = 1
_CALL = (
    *("request_id", "started_at", "client", "key_id", "upstream", "path", "method", "model_requested", "stream"),
    *("background", "bytes_in", "transport", "upstream_key", "session", "program", "demo"),
)
_call_of = attrgetter(*_CALL)
_known_of = attrgetter(
    *("request_id", "generation_id", "response_id", "upstream_request_id", "http_status", "time_to_first_byte_ms")
)
_LONGEST_TEXT = 96
"""Characters that are kept of each text of a call whose line is too long."""


class OpenCalls:
    """The table of this process. It belongs to the loop's thread. A slot is its place in the file; 0 is none."""

    def __init__(self, state_dir: Path, slots: int) -> None:
        """Make the file anew, with every slot free. Where the disk has no room there are fewer slots, or none.

        The caller holds the lock of the directory, and has settled what was in the table. Raises UntrustedFile.
        """
        path = state_dir / FILE_NAME
        self._free: list[int] = []
        for some in (slots, slots // 4, slots // 16):
            try:
                self._mapped = _mapped(path, (1 + some) * SLOT_BYTES)
            except OSError as error:
                LOG.warning("There is no room for a table of %d open calls: %s", some, error)
            else:
                self._free = list(range(some * SLOT_BYTES, 0, -SLOT_BYTES))  # the last is taken first: pages stay few
                return

    def fill(self, record: Record) -> int:
        """Note a call that is about to go upstream. Gives its slot, or 0: then the caller must write a row."""
        if not self._free:
            return 0
        worst = record.worst_case
        bounds = (None,) * 3 if worst is None else (worst.input_tokens, worst.output_tokens, worst.cost_nanousd)
        fields = (_VERSION, *_call_of(record), *bounds)
        try:
            text = orjson.dumps(fields)
        except TypeError:  # a text that is no Unicode, or a number beyond 64 bits
            return 0
        if len(text) > HALF_BYTES - 11:
            text = orjson.dumps([value[:_LONGEST_TEXT] if isinstance(value, str) else value for value in fields])
            if len(text) > HALF_BYTES - 11:
                return 0
        line = b"%08x %b\n" % (crc32(text), text)
        slot = self._free.pop()
        self._mapped[slot + 1 : slot + 1 + len(line)] = line
        self._mapped[slot] = _TAKEN
        return slot

    def note(self, slot: int, record: Record) -> None:
        """Note the ids that upstream has given a call so far. By them upstream can be asked about it."""
        text = orjson.dumps(_known_of(record))
        if len(text) <= HALF_BYTES - 10:
            line = b"%08x %b\n" % (crc32(text), text)
            self._mapped[slot + HALF_BYTES : slot + HALF_BYTES + len(line)] = line

    def clear(self, slots: Iterable[int]) -> None:
        """Free the slots of calls whose records are durable."""
        for slot in slots:
            self._mapped[slot] = 0
            self._free.append(slot)


def left_in(state_dir: Path) -> list[Record]:
    """The calls in the table of a process that has ended. Raises UntrustedFile and OSError."""
    try:
        content = read_own(state_dir / FILE_NAME)
    except FileNotFoundError:
        return []
    if content and not content.startswith(_HEAD):
        if content.strip(b"\0"):
            LOG.error("%s is not a table of open calls that this version knows", state_dir / FILE_NAME)
        return []
    return list(_records(content))


def forget_all(state_dir: Path) -> None:
    """Free every slot, after its call was stored elsewhere. Raises UntrustedFile and OSError."""
    descriptor = open_own(state_dir / FILE_NAME, os.O_RDWR)
    try:
        for slot in range(SLOT_BYTES, os.fstat(descriptor).st_size, SLOT_BYTES):
            if os.pread(descriptor, 1, slot) != b"\0":
                os.pwrite(descriptor, b"\0", slot)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mapped(path: Path, size: int) -> mmap.mmap:
    descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
    try:
        if os.fstat(descriptor).st_size != size:
            os.ftruncate(descriptor, 0)
            write_in_place(descriptor)
        allocate(descriptor, size)  # also what a backup has left out of it
        os.pwrite(descriptor, _HEAD, 0)
        return mmap.mmap(descriptor, size)
    except OSError:
        os.ftruncate(descriptor, 0)
        raise
    finally:
        os.close(descriptor)


def _records(content: bytes) -> Iterator[Record]:
    for slot in range(SLOT_BYTES, len(content), SLOT_BYTES):
        if content[slot] != _TAKEN:
            continue
        call = _read(content[slot + 1 : slot + HALF_BYTES])
        if call is None:  # it was being written: nothing had gone upstream
            continue
        record = _record(call)
        said = _read(content[slot + HALF_BYTES : slot + SLOT_BYTES])
        if said is not None and said[0] == record.request_id:
            _, record.generation_id, record.response_id, record.upstream_request_id, *said = said
            record.http_status, record.time_to_first_byte_ms = said
        yield record


def _read(half: bytes) -> list[Any] | None:
    line, end, _ = half.partition(b"\n")
    checksum, text = line[:9], line[9:]
    if not end or checksum != b"%08x " % crc32(text):
        return None
    fields: list[Any] = orjson.loads(text)
    return fields


def _record(call: list[Any]) -> Record:
    *begin, into, out, cost = call[1:]
    record = Record(**dict(zip(_CALL, begin, strict=True)))
    if into is not None:
        record.worst_case = WorstCase(into, out, cost)
    return record
