"""The first key: made by the first start, and shown once. It must not be lost between the two.

    note ──> key stored ──> shown ──> note removed

A process that dies in between leaves the note behind. The next start then knows that nobody may have seen the key, and
makes another. The first one stays good: it may have been seen at the last moment, and else nobody has it.
"""

from pathlib import Path

from app.gateway.audit import AuditLog
from app.gateway.clients.keys import KeyService
from app.private_files import check_own, write_whole

FIRST_CLIENT = "default"
NOTE_NAME = "first-key-not-shown"


class FirstKey:
    """Of one state directory."""

    def __init__(self, clients: KeyService, audit: AuditLog, state_dir: Path) -> None:
        self._clients = clients
        self._audit = audit
        self._note = state_dir / NOTE_NAME

    async def to_show(self) -> str | None:
        """The key of the client `default`, if this is the first start that lives to show one. Call shown() then.

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
        """The key has been printed, or there was none to print."""
        self._note.unlink(missing_ok=True)

    async def _made_here(self) -> str | None:
        """None when another process with the same database makes it at this moment: that one will show it."""
        write_whole(self._note, b"")  # on disk before the key is: a power cut may not keep the one without the other
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
        """Has somebody made keys since? Then they have one."""
        return any(client["name"] != FIRST_CLIENT for client in await self._clients.list_clients())
