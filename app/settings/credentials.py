"""Reads the server's own keys from text, variables and files, and chooses among them."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.settings.secret import Secret

MAX_KEY_CHARACTERS = 4096
LEAST_SECRET_CHARACTERS = 16
"""The least length of a secret of our own, such as the admin key: a shorter one can be guessed. Upstream keys may be
shorter, since local servers have short ones; answers are not checked for those."""

_QUOTES = "\"'`"
_KEY = re.compile(rf"[!-~]{{1,{MAX_KEY_CHARACTERS}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that was found at `origin`, or the fault of what was found there."""

    origin: str
    secret: Secret | None = None
    fault: str | None = None

    @classmethod
    def of(cls, origin: str, text: str, *, least: int = 1) -> Self:
        """Check a secret: up to 4,096 printable ASCII characters, no spaces. Newlines at the end are not part of it."""
        text = text.rstrip("\r\n")
        if not text:
            return cls(origin, fault="it is empty")
        if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
            return cls(origin, fault="it has quotation marks around it; remove them")
        if not _KEY.fullmatch(text):
            return cls(origin, fault="the key must be 1 to 4,096 printable ASCII characters, without spaces")
        if len(text) < least:
            return cls(
                origin,
                fault=f"it has {len(text)} characters and needs at least {least}: `openssl rand -hex 32` makes one",
            )
        return cls(origin, Secret(text))

    @classmethod
    def in_file(cls, origin: str, path: Path, *, least: int = 1) -> Self:
        """The key in a file. No more bytes are read than the longest key has."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_KEY_CHARACTERS + 3)  # a line end, and one too many
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            return cls(origin, fault=f"cannot read {path}: {getattr(error, 'strerror', None) or 'not a file name'}")
        return cls.of(origin, content.decode("ascii", errors="replace"), least=least)


def settle(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Choose among places of equal rank: the one key that they agree on, or all their faults.

    Different keys are a fault, since a wrong choice could bill the wrong account.
    """
    faulty = [candidate for candidate in candidates if candidate.fault is not None]
    if faulty or not candidates:
        return faulty
    if any(candidate.secret != candidates[0].secret for candidate in candidates):
        origins = ", ".join(candidate.origin for candidate in candidates)
        return [Candidate(origins, fault="these hold different keys; keep one of them")]
    return candidates[:1]


def variable_candidates(names: Sequence[str], environ: Mapping[str, str], *, least: int = 1) -> Iterator[Candidate]:
    """The keys in variables, and in the files named by their `..._FILE` variants. An empty variable counts as unset."""
    for name in names:
        if text := environ.get(name):
            yield Candidate.of(f"env {name}", text, least=least)
        if path := environ.get(f"{name}_FILE"):
            yield Candidate.in_file(f"env {name}_FILE", Path(path), least=least)


def systemd_candidate(environ: Mapping[str, str]) -> Iterator[Candidate]:
    """The credential `upstream-key` of systemd's LoadCredential=, if there is one."""
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        path = Path(directory, "upstream-key")
        if os.access(path, os.F_OK):  # unlike exists(), this raises nothing for a directory that we may not read
            yield Candidate.in_file("systemd credential upstream-key", path)
