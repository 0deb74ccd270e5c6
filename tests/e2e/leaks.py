"""Where a key may have got to. A place is a name and the bytes that stand there."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

Place = tuple[str, bytes]


def leaks(places: Iterable[Place], secrets: Mapping[str, str]) -> list[str]:
    """Which secret stands in which place."""
    return [
        f"{what} in {where}"
        for where, content in places
        for what, secret in secrets.items()
        if secret.encode() in content
    ]


def files(folder: Path, *, but: Iterable[str] = ()) -> Iterator[Place]:
    """Every file below a folder: the database, its journal, the logs, the note, whatever else was left there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in but:
            yield path.name, path.read_bytes()


def process(pid: int) -> Iterator[Place]:
    """What the system shows of a process. What it does not show, even to us, is no leak."""
    for name in ("environ", "cmdline"):
        try:
            yield f"/proc/PID/{name}", Path("/proc", str(pid), name).read_bytes()
        except (PermissionError, FileNotFoundError):
            continue
    assert Path(f"/proc/{pid}").exists(), "the process must be running to be looked at"
