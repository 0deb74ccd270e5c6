"""Backups: a copy of the database as it stands at one moment, made beside a running server.

Only reads: a process of its own, with a connection that cannot write, is allowed beside the one writer.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from app.private_files import sync_directory
from app.store.faults import StoreDamaged, StoreFault


def back_up(source: Path, target: Path) -> int:
    """Copy the database `source` to the new file `target`, readable by its owner alone. Gives its size in bytes.

    The copy has passed SQLite's integrity check before it bears its name, and is one file, without a log beside it.
    Raises StoreFault when `target` exists, or when there is no good copy to be made; OSError as the disk says.
    """
    if target.exists():
        raise StoreFault(f"{target} exists already: name a new file, since a backup never overwrites one")
    if not source.exists() or not source.stat().st_size:  # an empty file is one that nobody has made a database of
        raise StoreFault(f"there is no database {source}")
    if not target.parent.is_dir():
        raise StoreFault(f"there is no directory {target.parent}")
    unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        try:
            _copy(source, unfinished)
        except sqlite3.Error as error:
            raise StoreDamaged(f"{source} could not be copied: {error}") from error
        _finish(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target.stat().st_size


def _copy(source: Path, copy: Path) -> None:
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(uri, uri=True)) as reading,
        contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as writing,
    ):
        reading.backup(writing)  # in one step: in several, every commit of the server would start it anew
        writing.execute("PRAGMA journal_mode=DELETE")
        found = [str(line) for (line,) in writing.execute("PRAGMA integrity_check(10)")]
    if found != ["ok"]:
        raise StoreDamaged(f"{source} is damaged: {'; '.join(found)}")


def _finish(unfinished: Path, target: Path) -> None:
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(unfinished, target)  # unlike a rename, it overwrites nothing
    except FileExistsError:
        raise StoreFault(f"{target} exists already: name a new file, since a backup never overwrites one") from None
    except OSError:  # a file system without links
        unfinished.rename(target)
    sync_directory(target.parent)
