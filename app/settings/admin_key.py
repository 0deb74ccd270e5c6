"""The admin key: from the settings, or made at the first start."""

import secrets
from pathlib import Path

from app.private_files import UntrustedFile, read_own, write_whole
from app.settings.credentials import LEAST_SECRET_CHARACTERS, Candidate
from app.settings.model import Settings

FILE_NAME = "admin-key"


def admin_key(settings: Settings) -> str:
    """The admin key: from the settings, or from the state directory, where the first call makes one (0600).

    If the file is empty, after a power cut or on a full disk, a new key is made. Raises OSError, and UntrustedFile,
    also for a file that does not hold a key.
    """
    if settings.server.admin_key is not None:
        return settings.server.admin_key.reveal()
    path = settings.storage.state_dir / FILE_NAME
    key = _kept(path)
    if key is None:
        key = f"wb-admin-{secrets.token_urlsafe(32)}"
        write_whole(path, f"{key}\n".encode("ascii"))
    return key


def _kept(path: Path) -> str | None:
    """The key in the file. None if there is no file, or only blanks and the zeros of a lost write are in it."""
    try:
        text = read_own(path).strip(b"\0 \t\r\n").decode("ascii", "replace")
    except FileNotFoundError:
        return None
    if not text:
        return None
    found = Candidate.of(str(path), text, least=LEAST_SECRET_CHARACTERS)
    if found.fault is not None:
        raise UntrustedFile(f"{path} cannot be used: {found.fault}. Delete it, and the next start makes a new key")
    return text
