"""The terms of clients and groups, and how operators change them. A change counts at once in this process.

change ──> checked ──> the limiter is prepared ──> stored ──> in the directory
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from app.domain.errors import NotFound
from app.domain.identity.keys import check_group_name
from app.domain.money.limits import NO_LIMITS
from app.domain.money.terms import ClientTerms, GroupTerms
from app.domain.records import Outcome, Record
from app.gateway.clients.directory import ClientDirectory
from app.gateway.limiter import Amendment, Holder, HolderReading, Limiter
from app.gateway.ports import ClientStore, StoredClient, StoredGroup


class TermsService:
    """Changes terms, one change after the other. Times are microseconds UTC."""

    def __init__(
        self, store: ClientStore, directory: ClientDirectory, limiter: Limiter, now_us: Callable[[], int]
    ) -> None:
        self._store = store
        self._directory = directory
        self._limiter = limiter
        self._now_us = now_us
        self.changed: Callable[[], None] = lambda: None  # called after each change of the directory
        self._changing = asyncio.Lock()

    async def load(self, *, prepare: bool = True) -> None:
        """Fill the directory from the store; called again whenever another process may have changed the store.

        Without `prepare`, the limiter reads budgets only when asked: for commands, which admit no calls.
        """
        async with self._changing:
            while True:
                changes = self._directory.changes
                fresh = ClientDirectory()
                fresh.fill(await self._store.list_clients(), await self._store.list_groups())
                if prepare:
                    await self._prepare(fresh)
                if changes == self._directory.changes:  # else a new key has added a client meanwhile
                    self._directory.fill(fresh.clients, fresh.groups)
                    self.changed()
                    return

    async def change_client(
        self, name: str, change: Callable[[ClientTerms], ClientTerms], *, disabled: bool | None = None
    ) -> StoredClient:
        """Change a client's terms by a function of them, and whether it is disabled.

        Raises NotFound, or ValueError if the terms name a group that does not exist.
        """
        async with self._changing:
            client = self.client(name)
            terms = change(client.terms)
            self.group_of(terms)
            disabled_at = client.disabled_at
            if disabled is not None and disabled != (disabled_at is not None):
                disabled_at = self._now_us() if disabled else None
            return await self._put(replace(client, terms=terms, disabled_at=disabled_at))

    async def change_group(self, name: str, change: Callable[[GroupTerms], GroupTerms]) -> StoredGroup:
        """Change a group's terms by a function of them; create a new group. Raises ValueError for a bad name."""
        check_group_name(name)
        async with self._changing:
            group = self._directory.group(name) or StoredGroup(name, self._now_us(), GroupTerms())
            changed = replace(group, terms=change(group.terms))
            await self._prepare(self._directory.with_group(changed), changing=True)
            await self._store.put_group(changed)
            self._directory.put_group(changed)
            return changed

    async def delete_client(self, name: str) -> StoredClient:
        """Delete a client: its calls are refused and it is not listed. Its name stays taken. Raises NotFound."""
        async with self._changing:
            return await self._put(replace(self.client(name), deleted_at=self._now_us()))

    async def restore_client(self, name: str) -> StoredClient:
        """Undo a deletion: the client is as it was, except for its keys. Raises NotFound."""
        async with self._changing:
            client = self._directory.client(name)
            if client is None or client.deleted_at is None:
                raise NotFound(f"There is no deleted client {name[:64]!r}.")
            return await self._put(replace(client, deleted_at=None))

    def client(self, name: str) -> StoredClient:
        """A client. Raises NotFound."""
        client = self._directory.client(name)
        if client is None:
            raise NotFound(
                f"There is no client {name[:64]!r}. `weighbridge clients list` shows all; "
                "`weighbridge keys create CLIENT` creates one."
            )
        if client.deleted_at is not None:
            raise NotFound(f"Client {name[:64]!r} was deleted. `weighbridge clients restore` brings it back.")
        return client

    def group_of(self, terms: ClientTerms) -> StoredGroup | None:
        """The group that terms name, if any. Raises ValueError if it does not exist."""
        if terms.group is None:
            return None
        found = self._directory.group(terms.group)
        if found is None:
            raise ValueError(
                f"there is no group {terms.group!r}. Create it with `weighbridge groups set {terms.group}`"
            )
        return found

    def group(self, name: str) -> StoredGroup:
        """A group. Raises NotFound."""
        group = self._directory.group(name)
        if group is None:
            raise NotFound(
                f"There is no group {name[:64]!r}. `weighbridge groups list` shows all; "
                "`weighbridge groups set GROUP` creates one."
            )
        return group

    @property
    def groups(self) -> Sequence[StoredGroup]:
        """All groups, by name."""
        return self._directory.groups

    def members(self, group: str) -> Sequence[str]:
        """The names of a group's clients."""
        return tuple(name for name in self._directory.members(group) if not self._is_deleted(name))

    async def readings(self, client: str) -> list[tuple[Holder, HolderReading]]:
        """The current readings of a client and its group, each only if it has limits."""
        return [(holder, await self._reading(holder)) for holder in self._directory.holders(client)]

    async def group_reading(self, group: str) -> HolderReading:
        """The current reading of a group. Raises NotFound."""
        return await self._reading(self._directory.group_holder(self.group(group)))

    def amended(self, before: Record, after: Record) -> None:
        """Correct the budgets of a call whose record was amended."""
        tokens = _more(before.input_tokens, after.input_tokens) + _more(before.output_tokens, after.output_tokens)
        cost = _more(before.cost_nanousd, after.cost_nanousd)
        holders = self._directory.holders(before.client)
        given_up = before.outcome is Outcome.INTERRUPTED and before.duration_ms is None
        self._limiter.correct(Amendment(before.request_id, holders, before.started_at, tokens, cost, given_up))

    async def _put(self, changed: StoredClient) -> StoredClient:
        await self._prepare(self._directory.with_client(changed), changing=True)
        await self._store.change_client(changed)
        self._directory.put_client(changed)
        self.changed()
        return changed

    def _is_deleted(self, name: str) -> bool:
        client = self._directory.client(name)
        return client is not None and client.deleted_at is not None

    def _reading(self, holder: Holder) -> Awaitable[HolderReading]:
        return self._limiter.reading(holder, self._now_us())

    async def _prepare(self, fresh: ClientDirectory, *, changing: bool = False) -> None:
        """Prepare the limiter for all holders whose limits change or end. `changing`: this process makes the change."""
        known = {holder.name: holder for holder in self._directory.all_holders()}
        coming = {holder.name: holder for holder in fresh.all_holders()}
        gone = [replace(holder, limits=NO_LIMITS) for name, holder in known.items() if name not in coming]
        changed = [holder for name, holder in coming.items() if known.get(name) != holder]
        await self._limiter.prepare([*gone, *changed], known if changing else None)


def _more(before: int | None, after: int | None) -> int:
    """By how much an amendment changes a value; 0 if the new one is unknown."""
    return 0 if after is None else after - (before or 0)
