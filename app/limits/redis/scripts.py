"""The scripts, made from the files of lua/. The server knows each by its SHA-1."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import hiredis

_FOLDER = Path(__file__).parent / "lua"
_PARTS = ("clock", "processes", "rates", "accounts", "calls")
_NAMES = ("reserve", "settle", "adopt", "correct", "join", "mark", "open", "look")

Argument = str | bytes | int


@dataclass(slots=True, frozen=True)
class Script:
    """One script. The server runs it atomically."""

    source: str
    sha: bytes

    def command(self, *arguments: Argument) -> bytes:
        """The packed command that calls the script."""
        words = (b"EVALSHA", self.sha, b"0", *arguments)
        packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub wants a tuple of one
        return packed


class Scripts:
    """All scripts. `clock` is Lua code in place of the server's clock, for tests."""

    def __init__(self, clock: str | None = None) -> None:
        sources = {name: (_FOLDER / f"{name}.lua").read_text("utf-8") for name in (*_PARTS, *_NAMES)}
        if clock is not None:
            sources["clock"] = clock
        parts = "\n".join(sources[name] for name in _PARTS)
        made = {name: _script(f"{parts}\n{sources[name]}") for name in _NAMES}
        self.all = made
        self.reserve, self.settle, self.adopt = made["reserve"], made["settle"], made["adopt"]
        self.correct, self.join, self.mark = made["correct"], made["join"], made["mark"]
        self.open, self.look = made["open"], made["look"]


def _script(source: str) -> Script:
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest().encode())
