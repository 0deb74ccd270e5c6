"""Clients and their keys in the database."""

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from app.domain.identity.keys import StoredKey
from app.domain.money.terms import (
    NO_TERMS,
    ClientTerms,
    client_terms_json,
    group_terms_json,
    read_client_terms,
    read_group_terms,
)
from app.gateway.ports import StoredClient, StoredGroup
from app.store.faults import Conflict
from app.store.query.reader import Reader
from app.store.schema.tables import clients, groups, keys
from app.store.write import statements
from app.store.write.writer import Writer

_USES_A_STEP = 50  # each statement takes some 0.1 ms of the loop


class SqlClients:
    """The gateway's ClientStore port. Changes raise StorageUnavailable when the database does not take them.

    `now` gives microseconds UTC.
    """

    def __init__(self, writer: Writer, reader: Reader, now: Callable[[], int]) -> None:
        self._writer = writer
        self._reader = reader
        self._now = now

    async def load_keys(self) -> Sequence[StoredKey]:
        """All keys that could still be good: neither revoked nor expired.

        Read through the writer: every start needs them, and should not have to open the reading connections.
        """
        unexpired = sa.or_(keys.c.expires_at.is_(None), keys.c.expires_at > self._now())
        statement = sa.select(keys).where(keys.c.revoked_at.is_(None), unexpired)
        return [StoredKey(*row) for row in (await self._writer.run(statement))[0].rows]

    async def add_key(self, key: StoredKey, terms: ClientTerms = NO_TERMS, *, client_is_new: bool = False) -> None:
        """Store a new key; and its client on these terms, if the client is new.

        Raises ValueError when the key id exists, and with `client_is_new` when the client exists.
        """
        agreed = None if terms == NO_TERMS else client_terms_json(terms)
        client: sa.ClauseElement = statements.add_client(
            self._writer.backend.insert, key.client, key.created_at, agreed
        )
        if client_is_new:
            client = sa.insert(clients).values(name=key.client, created_at=key.created_at, terms=agreed)
        new = sa.insert(keys).values({column: getattr(key, column.name) for column in keys.c})
        try:
            await self._writer.run(client, new)
        except Conflict as error:
            or_client = f" or a client {key.client}" if client_is_new else ""
            raise ValueError(f"there is a key {key.key_id}{or_client} already") from error

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
        statement = sa.select(keys).order_by(keys.c.created_at, keys.c.key_id)
        return [StoredKey(**row) for row in await self._reader.rows(statement)]

    async def note_use(self, used_at: Mapping[str, int]) -> None:
        """Store when keys were last used, some at a time. A later stored time stays."""
        for begin in range(0, len(used_at), _USES_A_STEP):
            step = list(used_at.items())[begin : begin + _USES_A_STEP]
            await self._writer.run(*(_later_use(key_id, at) for key_id, at in step))

    async def list_clients(self) -> Sequence[StoredClient]:
        """All clients by name, deleted ones too. Read through the writer, as in load_keys()."""
        statement = sa.select(clients).order_by(clients.c.name)
        rows = (await self._writer.run(statement))[0].rows
        return [StoredClient(name, made, off, read_client_terms(t), gone) for name, made, off, t, gone in rows]

    async def change_client(self, client: StoredClient) -> None:
        """Replace a client's terms, and whether it is disabled or deleted. Raises LookupError."""
        values = {
            "disabled_at": client.disabled_at,
            "terms": client_terms_json(client.terms),
            "deleted_at": client.deleted_at,
        }
        results = await self._writer.run(sa.update(clients).where(clients.c.name == client.name).values(values))
        if results[0].rowcount == 0:
            raise LookupError(f"there is no client {client.name}")

    async def list_groups(self) -> Sequence[StoredGroup]:
        """All groups by name."""
        statement = sa.select(groups).order_by(groups.c.name)
        rows = (await self._writer.run(statement))[0].rows
        return [StoredGroup(name, made, read_group_terms(terms)) for name, made, terms in rows]

    async def put_group(self, group: StoredGroup) -> None:
        """Store a group, or new terms for an existing one."""
        terms = group_terms_json(group.terms)
        await self._writer.run(statements.put_group(self._writer.backend.insert, group.name, group.created_at, terms))


def _later_use(key_id: str, at: int) -> sa.ClauseElement:
    later = sa.or_(keys.c.last_used_at.is_(None), keys.c.last_used_at < at)
    return sa.update(keys).where(keys.c.key_id == key_id, later).values(last_used_at=at)
