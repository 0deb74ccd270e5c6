"""The file that keeps a mock's books from one run to the next: one call a line, after a line that says since when.

{"since": 1795000000.0}
{"id": "gen-...", "model": "openai/gpt-5.5", "input_tokens": 12, ...}
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from app.mock.booked_call import BookedCall
from app.mock.models import find_model
from app.mock.usage import MockUsage
from app.private_files import open_own, read_own, write_all, write_whole

_USAGE = tuple(part.name for part in fields(MockUsage))
_KEPT = tuple(part.name for part in fields(BookedCall) if part.name not in {"price", "full", "usage"})


class BookFile:
    """Of one mock, for as long as it runs."""

    def __init__(self, path: Path, now: float, most: int) -> None:
        """Read what is there, or begin anew `now`. The newest `most` calls stay. Raises OSError and UntrustedFile."""
        self._path = path
        since, calls = _read(path)
        if since is None or len(calls) > most:
            since = now if since is None else calls[-most].created_at
            calls = calls[-most:]
            self._rewrite(since, calls)
        self.since = since
        self.calls = calls
        self._descriptor = open_own(path, os.O_WRONLY | os.O_APPEND)

    def add(self, call: BookedCall) -> None:
        """Write a call that is over. A disk that takes no more costs the mock its memory of it, and nothing else."""
        with contextlib.suppress(OSError):
            write_all(self._descriptor, _line(_fields(call)))

    def _rewrite(self, since: float, calls: Iterable[BookedCall]) -> None:
        """Begin anew with these."""
        lines = [_line({"since": since}), *(_line(_fields(call)) for call in calls)]
        write_whole(self._path, b"".join(lines), durable=False)

    def reset(self, now: float) -> None:
        """Forget everything."""
        self.since = now
        self.close()
        self._rewrite(now, ())
        self._descriptor = open_own(self._path, os.O_WRONLY | os.O_APPEND)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def _read(path: Path) -> tuple[float | None, list[BookedCall]]:
    """Since when the books go, and their calls. A line that is no call, as a crash may leave one, is passed over."""
    try:
        first, *rest = read_own(path).splitlines()
        since = float(json.loads(first)["since"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None, []
    calls = []
    for line in rest:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            calls.append(_call(json.loads(line)))
    return since, calls


def _call(said: dict[str, Any]) -> BookedCall:
    kept = {name: said[name] for name in _KEPT}
    usage = MockUsage(**{name: said[name] for name in _USAGE})
    return BookedCall(**kept, price=find_model(said["model"]), full=None, usage=usage)


def _fields(call: BookedCall) -> dict[str, Any]:
    return {name: getattr(call, name) for name in _KEPT} | asdict(call.usage)


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"
