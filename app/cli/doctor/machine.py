"""Checks of the machine: the state directory, its disk, the clock."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from app.cli.doctor.finding import Finding, fail, ok, warn

LITTLE_BYTES, TOO_LITTLE_BYTES = 1 << 30, 64 << 20
"""A ledger grows by about 1 KB a call. Below the second bound, its log and spool may soon not fit."""

CLOCK_WARN_SECONDS, CLOCK_FAIL_SECONDS = 30, 300


def check_state_directory(path: Path) -> Iterator[Finding]:
    """Whether the directory exists and this user can write to it."""
    check = "state directory"
    try:
        found = path.stat()
    except FileNotFoundError:
        yield ok(check, f"{path} does not exist yet; the first start makes it")
        return
    except OSError as error:
        yield fail(check, f"{path}: {error.strerror}", "give the user who runs Weighbridge the right to read it")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield fail(check, f"{path} is not a directory", "move the file away, or set another state directory")
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield fail(check, f"{path} cannot be written by this user", "run the command as the user who runs the server")
    else:
        yield ok(check, str(path))


def check_disk_space(path: Path) -> Iterator[Finding]:
    """The free space where the state directory is or will be."""
    place = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
    free = shutil.disk_usage(place).free
    detail = f"{free / (1 << 30):,.1f} GiB are free at {place}"
    if free < TOO_LITTLE_BYTES:
        yield fail("disk space", detail, "make room, or set ledger.retention_days lower")
    elif free < LITTLE_BYTES:
        yield warn("disk space", detail, "make room, or set ledger.retention_days lower")
    else:
        yield ok("disk space", detail)


def check_clock(ahead_seconds: float | None, whose: str) -> Iterator[Finding]:
    """Whether the clock agrees with upstream's. `ahead_seconds` is None if upstream does not tell the time."""
    if ahead_seconds is None:
        yield ok("clock", f"not compared: {whose} was not reached, or does not tell the time")
        return
    apart = abs(ahead_seconds)
    detail = f"{apart:.0f} s {'ahead of' if ahead_seconds > 0 else 'behind'} {whose}"
    todo = "set the clock, for example with `timedatectl set-ntp true`"
    if apart >= CLOCK_FAIL_SECONDS:
        yield fail("clock", f"{detail}: keys, budgets and certificates end at the wrong time", todo)
    elif apart >= CLOCK_WARN_SECONDS:
        yield warn("clock", detail, todo)
    else:
        yield ok("clock", f"agrees with {whose}")
