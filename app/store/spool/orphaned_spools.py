"""Moves the spools of ended processes to a running one: a server may come back with fewer workers."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.private_files import check_own, make_own_directory, open_own
from app.store.lock import LOCK_NAME
from app.store.spool.left_calls import settle_left_calls
from app.store.spool.open_calls import left_in
from app.store.spool.spool import SPOOL_NAME

WORKERS = "worker-*"
"""Their directories, in the state directory."""

_FILES = "records-*.jsonl"


def inherit(state_dir: Path, heir: Path, *, keep: int) -> int:
    """Move spooled files below `state_dir` to the spool of `heir`, except those of its first `keep` workers.

    Open calls in their tables go there, too. The caller holds the lock of `state_dir`. Files of workers that still
    run stay. Gives how many files were moved. Raises UntrustedFile and OSError.
    """
    stay = {state_dir / f"worker-{number}" for number in range(1, keep + 1)} | {heir}
    moved = 0
    for folder in (state_dir, *sorted(state_dir.glob(WORKERS))):
        if folder != state_dir:
            check_own(folder, folder=True)
        if folder in stay or not (any(folder.glob(f"{SPOOL_NAME}/{_FILES}")) or left_in(folder)):
            continue
        with _ours(folder, state_dir) as ours:
            if ours:
                if heir != state_dir:
                    make_own_directory(heir)
                settle_left_calls(folder, heir)
            for path in sorted(folder.glob(f"{SPOOL_NAME}/{_FILES}")) if ours else ():
                check_own(path)
                spool = heir / SPOOL_NAME
                make_own_directory(spool)
                path.rename(_free_place(spool))
                moved += 1
    return moved


def _free_place(spool: Path) -> Path:
    numbers = [int(path.stem.rpartition("-")[2]) for path in spool.glob("*-*.jsonl")]
    return spool / f"records-{max(numbers, default=0) + 1:08d}.jsonl"


@contextmanager
def _ours(folder: Path, state_dir: Path) -> Iterator[bool]:
    """Lock the folder during the block. False when another process has it."""
    if folder == state_dir:
        yield True
        return
    descriptor = open_own(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
