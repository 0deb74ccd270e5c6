"""The spool: files that take rows while the database does not. A line is on disk before its caller hears so.

    reserve ──renamed──▶ records-00000007.jsonl ──read, oldest first──▶ the database ──done──▶ deleted
                             ▲                └─ what is no line ─▶ damaged-00000007.jsonl
                           append

The reserve is a file whose room on the disk is allocated beforehand, so that a full disk stops the database but not
the spool. Zeros follow the last line until the file is closed. A killed process leaves them there.

A row may be in the spool twice, or in the database already: writing it again changes nothing. The spool belongs to the
writer's thread. Methods raise OSError.
"""

import contextlib
import logging
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from app.private_files import (
    UntrustedFile,
    allocate,
    check_own,
    make_own_directory,
    open_own,
    sync_directory,
    write_all,
    write_whole,
)
from app.store.schema.rows import Rows
from app.store.spool.spool_codec import Lines, decoded, encoded

LOG = logging.getLogger(__name__)

SPOOL_NAME = "spool"
SEGMENT_BYTES = 16 * 2**20
"""A file of this size is followed by another, so that replayed rows soon free their room. The reserve is as large:
room for about 20,000 records."""

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has only the other one
_WAITING, _DAMAGED, _SUFFIX = "records-", "damaged-", ".jsonl"
_RESERVE = "reserve"


@dataclass(slots=True, frozen=True)
class SpoolContents:
    """The bytes of rows that wait for the database, and the files with damaged lines."""

    waiting_bytes: int
    damaged_files: tuple[str, ...]


def spool_contents(state_dir: Path) -> SpoolContents:
    """Look at the spool in this directory. Raises OSError."""
    directory = state_dir / SPOOL_NAME
    waiting = sum(map(_size, directory.glob(f"{_WAITING}*{_SUFFIX}")))
    return SpoolContents(waiting, tuple(sorted(path.name for path in directory.glob(f"{_DAMAGED}*{_SUFFIX}"))))


class Spool:
    """Appending and reading may alternate. Call done() for what was read before reading more."""

    def __init__(self, state_dir: Path) -> None:
        """Raises UntrustedFile when another user may have planted a file."""
        self.damaged = 0
        self._directory = state_dir / SPOOL_NAME
        self._reserve = self._directory / _RESERVE
        check_own(self._directory, folder=True)
        self._waiting = deque(sorted(self._directory.glob(f"{_WAITING}*{_SUFFIX}")))
        for path in self._waiting:
            check_own(path)
        self._inherited = len(self._waiting)
        self._number = max((_number_of(path) for path in self._directory.glob(f"*{_SUFFIX}")), default=0)
        self._appending: int | None = None  # descriptor of the newest file
        self._good_bytes = 0  # written to it
        self._done_bytes = 0  # read from the oldest file, and stored
        self._end = 0  # of what is written in it, once that is known
        self._chunk: Lines | None = None
        self._chunk_ends = 0
        self._damaged_here: list[bytes] = []

    @property
    def inherited(self) -> bool:
        """Whether there are still rows of an earlier process."""
        return self._inherited > 0

    def __bool__(self) -> bool:
        """Whether rows wait."""
        return bool(self._waiting)

    def set_room_aside(self) -> None:
        """Allocate the room of the next file."""
        check_own(self._reserve)
        if self._reserve.exists():
            return
        make_own_directory(self._directory)
        unfinished = self._reserve.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        descriptor = open_own(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            allocate(descriptor, SEGMENT_BYTES)
            os.fsync(descriptor)
        except OSError:
            unfinished.unlink()
            raise
        finally:
            os.close(descriptor)
        unfinished.rename(self._reserve)
        sync_directory(self._directory)

    def append(self, rows: Rows) -> None:
        """Write the rows; they are on disk when this returns. When it raises, some of them may be."""
        lines = encoded(rows)
        if self._good_bytes + len(lines) > SEGMENT_BYTES:
            self._end_file()
        if self._appending is None:
            try:
                self._begin_file()
            except UntrustedFile as error:  # planted while the server runs: the writer goes on without the spool
                raise OSError(str(error)) from error
        assert self._appending is not None  # noqa: S101 - for the type checker
        try:
            write_all(self._appending, lines)
            _sync(self._appending)
        except OSError:
            self._abandon_file(self._appending)
            raise
        self._good_bytes += len(lines)

    def read(self, most: int) -> Rows:
        """The oldest rows, at most so many; the same until done(). Empty at a file's end, where it is deleted."""
        if self._chunk is None and self._waiting:
            try:
                lines = self._next_lines(most)
            except FileNotFoundError as error:
                LOG.error("A file of the spool is gone: %s", error)  # noqa: TRY400
                self._forget_file()
            except (OSError, UntrustedFile) as error:
                self._set_file_aside(error)
            else:
                if lines:
                    self._chunk = decoded(lines)
                else:
                    self._finish_file()
        return Rows() if self._chunk is None else self._chunk.rows

    def done(self) -> None:
        """What was read is in the database."""
        if self._chunk is not None:
            self._damaged_here += self._chunk.damaged
            self._done_bytes = self._chunk_ends
            self._chunk = None

    def close(self) -> None:
        """Close the files. Rows that were read but not done() are read again by the next process."""
        self._end_file()

    def _begin_file(self) -> None:
        make_own_directory(self._directory)
        path = self._path(_WAITING, self._number + 1)
        check_own(self._reserve)
        try:
            self._reserve.rename(path)
        except FileNotFoundError:
            descriptor = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        else:
            descriptor = open_own(path, os.O_WRONLY)
        self._number += 1
        self._appending, self._good_bytes = descriptor, 0
        self._waiting.append(path)
        sync_directory(self._directory)

    def _abandon_file(self, descriptor: int) -> None:
        """After a failed write the file's end is unknown: cut it back, and begin a new file."""
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, self._good_bytes)
            if not self._good_bytes and self._waiting:
                self._waiting[-1].unlink()
                self._waiting.pop()
        self._end_file()

    def _end_file(self) -> None:
        if self._appending is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._appending, self._good_bytes)
            with contextlib.suppress(OSError):
                os.close(self._appending)
            self._appending, self._good_bytes = None, 0

    def _next_lines(self, most: int) -> list[bytes]:
        """Read on in the oldest file, which may be the one that is written."""
        lines: list[bytes] = []
        with os.fdopen(open_own(self._waiting[0], os.O_RDONLY), "rb") as file:
            if self._appending is not None and len(self._waiting) == 1:
                end = self._good_bytes
            else:
                end = self._end = self._end or len(file.read().rstrip(b"\0"))
            at = file.seek(self._done_bytes)
            while len(lines) < most and at < end:
                lines.append(file.readline(end - at))
                at += len(lines[-1])
        self._chunk_ends = at
        return lines

    def _finish_file(self) -> None:
        path = self._waiting[0]
        if self._damaged_here:
            self._keep_damaged(path)
        self._forget_file()
        path.unlink()
        sync_directory(self._directory)

    def _keep_damaged(self, path: Path) -> None:
        aside = self._path(_DAMAGED, _number_of(path))
        write_whole(aside, b"".join(piece.rstrip(b"\n") + b"\n" for piece in self._damaged_here))
        self._count_damaged(len(self._damaged_here), aside.name, "their checksums are wrong")

    def _set_file_aside(self, error: Exception) -> None:
        """The file cannot be read to its end: rename it, so that it stays on disk, and go on with the next one."""
        path = self._waiting[0]
        aside = self._path(_DAMAGED, _number_of(path))
        path.rename(aside)
        self._forget_file()
        self._count_damaged(1, aside.name, str(error))

    def _count_damaged(self, count: int, name: str, problem: str) -> None:
        self.damaged += count
        LOG.error("%d damaged lines of the spool were set aside in %s/%s: %s", count, SPOOL_NAME, name, problem)

    def _forget_file(self) -> None:
        if len(self._waiting) == 1:
            self._end_file()
        self._done_bytes = self._end = 0
        self._damaged_here = []
        self._waiting.popleft()
        self._inherited = max(0, self._inherited - 1)

    def _path(self, kind: str, number: int) -> Path:
        return self._directory / f"{kind}{number:08d}{_SUFFIX}"


def _size(path: Path) -> int:
    """In bytes, without the zeros after the last line. 0 when a running server has just deleted the file."""
    try:
        return len(path.read_bytes().rstrip(b"\0"))
    except FileNotFoundError:
        return 0


def _number_of(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0
