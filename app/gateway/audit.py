"""The audit log: who changed which keys, clients, groups and running calls. Entries go to the database and the log.

An entry is written after the change. If the database cannot store it, the change stands and the log has the entry.
"""

import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.errors import StorageUnavailable

LONGEST_DETAIL = 4096

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class AuditEntry:
    """One change. `at` is in microseconds UTC; ids sort by it. `detail` is a JSON object, and holds no secret.

    `actor` is `cli:USER` for a command on this machine, `admin@ADDRESS` for an admin key used elsewhere, `server` for
    the server itself. `action` is what was done, such as `key.create`; `subject` is to which one.
    """

    audit_id: str
    at: int
    actor: str
    action: str
    subject: str
    detail: str | None


class AuditStore(Protocol):
    """Keeps entries for good. Raises StorageUnavailable."""

    async def add(self, entry: AuditEntry) -> None:
        """Store an entry."""

    async def entries(self, since: int | None, until: int | None, most: int) -> Sequence[AuditEntry]:
        """The newest entries between two moments (microseconds UTC, the later one exclusive), oldest first."""


class AuditLog:
    """One per process. `now_us` returns microseconds UTC."""

    def __init__(self, store: AuditStore, now_us: Callable[[], int]) -> None:
        self._store = store
        self._now_us = now_us

    async def note(self, actor: str, action: str, subject: str, detail: Mapping[str, object] | None = None) -> None:
        """Write an entry. Never raises, since the change has been made."""
        now = self._now_us()
        text = json.dumps(detail, ensure_ascii=False)[:LONGEST_DETAIL] if detail else None
        entry = AuditEntry(f"aud_{now // 1000:012x}{secrets.token_hex(4)}", now, actor, action, subject, text)
        _log.info("audit: %s %s %s %s", actor, action, subject, text or "")
        try:
            await self._store.add(entry)
        except StorageUnavailable as error:
            _log.error("audit: entry %s could not be stored: %s", entry.audit_id, error)

    async def entries(self, since: int | None, until: int | None, most: int) -> Sequence[AuditEntry]:
        """See AuditStore. Raises StorageUnavailable."""
        return await self._store.entries(since, until, most)
