"""Files that the program keeps for itself: written whole or not at all, opened without following links.

    content ──> NAME.new-PID ──fsync──> renamed to NAME ──fsync of the directory──> there after a power cut, too

A file is trusted when it is a plain file, belongs to the user who runs the program, and nobody else may write it.
Whoever could plant a file in the state directory could otherwise choose the admin key or the database. Root also trusts
the owner of the directory: so commands work for root on the directory of a service.
"""

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import sys
from pathlib import Path

_GET_FLAGS, _SET_FLAGS, _NO_COPY = 0x80086601, 0x40086602, 0x00800000
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UntrustedFile(Exception):
    """Somebody else may have made or changed this file. The message names the command that mends it."""


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put a file with this content in the place of `path`, mode 0600. It is on disk when this returns, if `durable`.

    Whatever happens in between, `path` is either as before or complete. Raises OSError.
    """
    aside = path.with_name(f"{path.name}.new-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()  # left behind by a process of the same id
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(descriptor, content)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    if durable:
        sync_directory(path.parent)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it, however many calls that takes. Raises OSError."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def allocate(descriptor: int, size: int) -> None:
    """Give an open file so many bytes, with room for them on the disk; zeros where it was shorter. Raises OSError."""
    if sys.platform == "linux":
        os.posix_fallocate(descriptor, 0, size)
        return
    length = os.fstat(descriptor).st_size
    os.lseek(descriptor, length, os.SEEK_SET)
    write_all(descriptor, bytes(max(0, size - length)))


def write_in_place(descriptor: int) -> None:
    """Ask a file system that copies what is written (btrfs) to leave this file, which must be empty, in its place.

    There a change of allocated room needs new room, and a store into a mapped file of a full disk is SIGBUS (tried).
    Others do not know the flag.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            flags = int.from_bytes(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))[:4], sys.byteorder)
            fcntl.ioctl(descriptor, _SET_FLAGS, (flags | _NO_COPY).to_bytes(8, sys.byteorder))


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: without it a power cut may take a new file's name. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_own(path: Path, flags: int) -> int:
    """Open a trusted file, or make it (0600) if `flags` say so. Raises UntrustedFile and OSError."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise _is_link(path) from None
        if error.errno == errno.EISDIR:
            raise _is_folder(path) from None
        raise
    try:
        _check(path, os.fstat(descriptor), descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_own(path: Path) -> bytes:
    """The content of a trusted file. Raises UntrustedFile and OSError."""
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read()


def check_own(path: Path, *, folder: bool = False) -> None:
    """Raise UntrustedFile unless `path` is a trusted file or socket, or is not there. For what others open.

    With `folder` it may be a trusted folder, too.
    """
    with contextlib.suppress(FileNotFoundError):
        _check(path, path.lstat(), None, folder=folder)


def make_own_directory(path: Path) -> None:
    """Make a directory (0700) in a state directory, unless it is there already. Raises UntrustedFile and OSError."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        check_own(path, folder=True)
        if not path.is_dir():
            raise
    else:
        sync_directory(path.parent)


def _check(path: Path, found: os.stat_result, descriptor: int | None, *, folder: bool = False) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise _is_link(path)
    if found.st_uid != os.geteuid() and (os.geteuid() or found.st_uid != path.parent.stat().st_uid):
        raise UntrustedFile(
            f"{path} belongs to user id {found.st_uid}, and Weighbridge runs as {os.geteuid()}: "
            f"if you trust what it holds, run `chown {os.geteuid()} {_quoted(path)}`, else `rm -r {_quoted(path)}`"
        )
    if stat.S_ISDIR(found.st_mode) and not folder:
        raise _is_folder(path)
    if stat.S_ISDIR(found.st_mode) or stat.S_ISSOCK(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        raise UntrustedFile(f"{path} is not a plain file: run `rm {_quoted(path)}`")
    if found.st_mode & _OTHERS_WRITE and not _made_so_by_volume(path, found):
        raise UntrustedFile(
            f"{path} can be written by other users: if you trust what it holds, run `chmod 600 {_quoted(path)}`, "
            f"else `rm {_quoted(path)}`"
        )
    if found.st_mode & _OTHERS_WRITE:
        path.chmod(0o600) if descriptor is None else os.fchmod(descriptor, 0o600)


def _made_so_by_volume(path: Path, found: os.stat_result) -> bool:
    """Whether Kubernetes opened the file to our own group: with `fsGroup` it does so to each file of a volume.

    It marks the directories of such a volume with the setgid bit.
    """
    folder = path.parent.stat()
    ours = found.st_gid == folder.st_gid and found.st_gid in (os.getegid(), *os.getgroups())
    return ours and bool(folder.st_mode & stat.S_ISGID) and not found.st_mode & stat.S_IWOTH


def _is_link(path: Path) -> UntrustedFile:
    return UntrustedFile(
        f"{path} is a link, and Weighbridge follows none in its state directory: run `rm {_quoted(path)}`"
    )


def _is_folder(path: Path) -> UntrustedFile:
    return UntrustedFile(f"{path} is a folder, and Weighbridge needs a file there: run `rm -r {_quoted(path)}`")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
