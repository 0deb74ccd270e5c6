"""The key of operators: set by them, or made at the first start."""

import os
import secrets

from app.settings.model import Settings


def admin_key(settings: Settings) -> str:
    """The admin key: from the settings, or from the state directory, where the first call makes one (0600)."""
    if settings.server.admin_key is not None:
        return settings.server.admin_key.reveal()
    path = settings.storage.state_dir / "admin-key"
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        key = f"wb-admin-{secrets.token_urlsafe(32)}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
        return key
