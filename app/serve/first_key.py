"""The first key. The first start makes it and shows it once. It must not be lost in between.

    note ──> key stored ──> shown ──> note removed

A process that dies in between leaves the note. The next start then knows that the key may never have been shown, and
makes another. The first key stays valid: somebody may have seen it, and otherwise nobody has it.
"""

from pathlib import Path

from app.gateway.audit import AuditLog
from app.gateway.clients.keys import KeyService
from app.private_files import check_own, write_whole

FIRST_CLIENT = "default"
NOTE_NAME = "first-key-not-shown"


class FirstKey:
    """The first key of one state directory."""

    def __init__(self, clients: KeyService, audit: AuditLog, state_dir: Path) -> None:
        self._clients = clients
        self._audit = audit
        self._note = state_dir / NOTE_NAME

    async def to_show(self) -> str | None:
        """The key of the client `default`, or None if a key was shown before. Call shown() after printing it.

        Raises UntrustedFile.
        """
        check_own(self._note)
        if self._note.exists():
            if await self._others_made():
                self.shown()
                return None
        elif self._clients.any_active or await self._clients.list_clients():
            return None
        else:
            return await self._made_here()
        return await self._made()

    def shown(self) -> None:
        """Remove the note: the key was printed, or there was none to print."""
        self._note.unlink(missing_ok=True)

    async def _made_here(self) -> str | None:
        """None if another process with the same database makes it right now and will show it."""
        write_whole(self._note, b"")  # on disk before the key, so that a power cut cannot keep the key alone
        try:
            return await self._made(client_is_new=True)
        except ValueError:
            self.shown()
            return None

    async def _made(self, *, client_is_new: bool = False) -> str:
        key = await self._clients.create_key(FIRST_CLIENT, client_is_new=client_is_new)
        await self._audit.note("server", "key.create", key.key_id, {"client": FIRST_CLIENT})
        return key.text

    async def _others_made(self) -> bool:
        """Whether other keys were made since; then no first key is needed."""
        return any(client["name"] != FIRST_CLIENT for client in await self._clients.list_clients())
