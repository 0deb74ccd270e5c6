"""When keys were last used: exact in memory, to the minute in the database. No call waits for it.

committed records ──> latest, by key ──once a minute, and at the end──> keys.last_used_at
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from app.domain.errors import StorageUnavailable
from app.domain.records import Record

INTERVAL_SECONDS = 60.0

_log = logging.getLogger(__name__)


class KeyUseStore(Protocol):
    """Stores when keys were last used."""

    async def note_use(self, used_at: Mapping[str, int]) -> None:
        """Store the times by key id, unless later ones are stored. Raises StorageUnavailable."""


class KeyUse:
    """One per process. Times in microseconds UTC."""

    def __init__(self, store: KeyUseStore) -> None:
        self._store = store
        self._latest: dict[str, int] = {}
        self._unsaved: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to store the times, once a minute."""
        self._task = asyncio.get_running_loop().create_task(self._work(), name="key use")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, and store what is left."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.store_unsaved()

    def committed(self, records: Sequence[Record]) -> None:
        """Note the use of these calls' keys. Any one thread at a time may call it."""
        unsaved = self._unsaved
        for record in records:
            unsaved[record.key_id] = record.started_at

    def last_used(self, key_id: str, stored: int | None) -> int | None:
        """When a key was last used. `stored` is what the database has."""
        known = (stored, self._latest.get(key_id), self._unsaved.get(key_id))
        return max((at for at in known if at is not None), default=None)

    async def store_unsaved(self) -> None:
        """Store what was not stored yet. What the database cannot store now is tried again."""
        unsaved, self._unsaved = self._unsaved, {}
        if not unsaved:
            return
        try:
            await self._store.note_use(dict(unsaved))  # a batch may be adding to it at this moment
        except StorageUnavailable as error:
            self._unsaved = {**unsaved, **self._unsaved}
            _log.warning("the last use of %d keys could not be stored: %s", len(unsaved), error)
        else:
            self._latest.update(unsaved)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self.store_unsaved()
