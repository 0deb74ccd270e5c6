"""Clients and their keys in the database."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from app.domain.keys import StoredKey
from app.store import statements
from app.store.reader import Reader
from app.store.tables import clients, keys
from app.store.writer import Writer

# In the order of StoredKey's fields, so that a row makes a key.
_KEY_COLUMNS = (
    keys.c.key_id,
    keys.c.client,
    keys.c.digest,
    keys.c.created_at,
    keys.c.expires_at,
    keys.c.revoked_at,
    keys.c.replaced_by,
)


class SqlClients:
    """The gateway's ClientStore port. Changes raise StorageUnavailable when the database does not take them.

    `now` gives microseconds UTC.
    """

    def __init__(self, writer: Writer, reader: Reader, now: Callable[[], int]) -> None:
        self._writer = writer
        self._reader = reader
        self._now = now

    async def load_keys(self) -> Sequence[StoredKey]:
        """All keys that could still be good: neither revoked nor expired, of clients that are not disabled.

        Read through the writer: this is part of every start, which need not pay for the reading connections.
        """
        unexpired = sa.or_(keys.c.expires_at.is_(None), keys.c.expires_at > self._now())
        good = sa.and_(keys.c.revoked_at.is_(None), unexpired, clients.c.disabled_at.is_(None))
        statement = sa.select(*_KEY_COLUMNS).join(clients, clients.c.name == keys.c.client).where(good)
        return [StoredKey(*row) for row in (await self._writer.run(statement))[0].rows]

    async def add_key(self, key: StoredKey) -> None:
        """Store a new key, and its client if that is new. Raises ValueError when there is a key of this id."""
        client = statements.add_client(sqlite.insert, key.client, key.created_at)
        new = sa.insert(keys).values(
            key_id=key.key_id,
            client=key.client,
            digest=key.digest,
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            replaced_by=key.replaced_by,
        )
        try:
            await self._writer.run(client, new)
        except sqlite3.IntegrityError as error:
            raise ValueError(f"there is a key {key.key_id} already") from error

    async def change_key(
        self, key_id: str, *, expires_at: int | None, revoked_at: int | None, replaced_by: str | None = None
    ) -> None:
        """Set when a key ends (None: it does not) and, when given, the key after it. Raises LookupError."""
        values: dict[str, int | str | None] = {"expires_at": expires_at, "revoked_at": revoked_at}
        if replaced_by is not None:
            values["replaced_by"] = replaced_by
        results = await self._writer.run(sa.update(keys).where(keys.c.key_id == key_id).values(values))
        if results[0].rowcount == 0:
            raise LookupError(f"there is no key {key_id}")

    async def list_keys(self) -> Sequence[StoredKey]:
        """All keys ever made, oldest first."""
        statement = sa.select(*_KEY_COLUMNS).order_by(keys.c.created_at, keys.c.key_id)
        return [StoredKey(**row) for row in await self._reader.rows(statement)]

    async def list_clients(self) -> Sequence[Mapping[str, Any]]:
        """One mapping a client, by name: `name`, `created_at` (microseconds UTC), `disabled` (bool)."""
        disabled = clients.c.disabled_at.is_not(None).label("disabled")
        statement = sa.select(clients.c.name, clients.c.created_at, disabled).order_by(clients.c.name)
        return [{**row, "disabled": bool(row["disabled"])} for row in await self._reader.rows(statement)]
