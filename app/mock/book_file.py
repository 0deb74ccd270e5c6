"""The file that keeps a mock's usage records from one run to the next: a line with their begin, then a line a call.

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
    """The file of one running mock."""

    def __init__(self, path: Path, now: float, most: int) -> None:
        """Read the file, or begin anew `now`. Keeps the newest `most` calls. Raises OSError and UntrustedFile."""
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
        """Write a call that has ended. If the disk is full, the next run does not know the call."""
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
        """Close the file."""
        os.close(self._descriptor)


def _read(path: Path) -> tuple[float | None, list[BookedCall]]:
    """The begin of the records, and the calls. Lines that are not a call, as after a crash, are skipped."""
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
