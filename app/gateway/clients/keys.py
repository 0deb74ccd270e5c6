"""Keys of clients: who may call, and how operators change that. A change counts at once in this process."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from app.domain.errors import AuthenticationFailed, NotFound
from app.domain.identity.keys import (
    KEY_ID_LENGTH,
    KEY_LENGTH,
    KeyFault,
    KeyState,
    MintedKey,
    StoredKey,
    check_client_name,
    check_key_label,
    mint,
    parse,
)
from app.domain.money.terms import NO_TERMS, ClientTerms
from app.gateway.clients.directory import ClientDirectory
from app.gateway.limiter import Holder
from app.gateway.ports import ClientStore, StoredClient

_BEARER = b"bearer "
_PLAIN_BEARER = b"Bearer "
_FAULTS = {
    KeyFault.NOT_A_KEY: (
        f"That is not a Weighbridge key: those begin with sk-wb- and have {KEY_LENGTH} characters. "
        "Ask the operator of this server for one."
    ),
    KeyFault.MISTYPED: "This Weighbridge key is mistyped or cut: its checksum is wrong.",
}


class KeyDirectory:
    """All keys that may be valid, in memory. `clients` is the directory of their clients."""

    def __init__(self) -> None:
        self._keys: dict[str, StoredKey] = {}
        self._by_digest: dict[bytes, StoredKey] = {}
        self.clients = ClientDirectory()
        self.changes = 0  # how often put() was called

    def fill(self, keys: Sequence[StoredKey]) -> None:
        """Replace all keys."""
        self._keys = {key.key_id: key for key in keys}
        self._by_digest = {key.digest: key for key in keys}

    def has(self, key_id: str) -> bool:
        """Whether this key is here and not revoked."""
        key = self._keys.get(key_id)
        return key is not None and key.revoked_at is None

    @property
    def any(self) -> bool:
        """Whether there is a key."""
        return bool(self._keys)

    def put(self, key: StoredKey) -> None:
        """Add or change a key."""
        self._keys[key.key_id] = key
        self._by_digest[key.digest] = key
        self.changes += 1

    def authenticate(self, authorization: bytes | None, now_us: int) -> StoredKey:
        """The caller's key. Raises AuthenticationFailed with a message that says what is wrong and has no key.

        The key is looked up by the digest of what was sent, so that timing reveals nothing about any key.
        """
        if authorization is not None and authorization.startswith(_PLAIN_BEARER):
            found = self._by_digest.get(sha256(authorization[7:]).digest())
            if found is not None and found.good(now_us):
                return found
        if authorization is None:
            message = "No API key: send `Authorization: Bearer sk-wb-...` with the key of your Weighbridge client."
            raise AuthenticationFailed(message)
        if authorization[:7].lower() != _BEARER:
            message = "The Authorization header must be `Bearer` and a Weighbridge key."
            raise AuthenticationFailed(message)
        claim = parse(authorization[7:].strip(b" "))
        if isinstance(claim, KeyFault):
            raise AuthenticationFailed(_FAULTS[claim])
        key = self._keys.get(claim.key_id)
        if key is None or not key.matches(claim.digest):
            message = "Unknown API key."
            raise AuthenticationFailed(message)
        state = key.state(now_us)
        if state is not KeyState.ACTIVE:
            message = f"This API key is {state.value}."
            raise AuthenticationFailed(message)
        return key


class KeyService:
    """Creates and changes keys, and creates clients with them. Times are microseconds UTC.

    `defaults` are the terms of new clients. `prepare` is the limiter's, which must know a client before its first call.
    `last_used` returns when a key was last used, from its id and the stored time.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its neighbours
        self,
        store: ClientStore,
        directory: KeyDirectory,
        now_us: Callable[[], int],
        defaults: ClientTerms = NO_TERMS,
        prepare: Callable[[Sequence[Holder], Mapping[str, Holder]], Awaitable[None]] | None = None,
        last_used: Callable[[str, int | None], int | None] = lambda _, stored: stored,
    ) -> None:
        self._store = store
        self._directory = directory
        self._now_us = now_us
        self._defaults = defaults
        self._prepare = prepare
        self._last_used = last_used
        self.revoked: Callable[[str], None] = lambda _: None  # called with each key whose running calls must end
        self._changing = asyncio.Lock()  # without it, a key revoked while it is rotated would be valid again

    async def load(self) -> None:
        """Fill the directory from the store. Repeats if a key was changed meanwhile, since the read may be older."""
        while True:
            changes = self._directory.changes
            keys = await self._store.load_keys()
            if changes == self._directory.changes:
                self._directory.fill(keys)
                return

    @property
    def any_active(self) -> bool:
        """Whether there is a key in memory."""
        return self._directory.any

    async def create_key(
        self, client: str, *, lifetime_us: int | None = None, client_is_new: bool = False, label: str | None = None
    ) -> MintedKey:
        """A new key; the client is created if it is new. Raises ValueError for a bad name or label.

        With `client_is_new`, also raises ValueError if the client exists: of several processes, only one succeeds.
        """
        check_client_name(client)
        if label is not None:
            check_key_label(label)
        self._refuse_deleted(client)
        now = self._now_us()
        minted = mint(secrets.token_bytes)
        expires_at = None if lifetime_us is None else now + lifetime_us
        key = StoredKey(minted.key_id, client, minted.digest, now, expires_at, None, label=label)
        if self._prepare is not None and self._defaults.limits.any and self._directory.clients.client(client) is None:
            await self._prepare([Holder(f"client:{client}", self._defaults.limits, (client,))], {})
        await self._store.add_key(key, self._defaults, client_is_new=client_is_new)
        if self._directory.clients.client(client) is None:
            self._directory.clients.put_client(StoredClient(client, now, None, self._defaults))
        self._directory.put(key)
        return minted

    async def revoke_key(self, key_id: str, *, let_run: bool = False) -> StoredKey:
        """Revoke a key, and end its running calls unless `let_run`. Raises NotFound.

        For a key that is revoked already, this ends calls that were let run.
        """
        async with self._changing:
            key = await self._find(key_id)
            if key.revoked_at is not None and (let_run or key.cuts):
                return key
            now = self._now_us()
            expires_at = now if let_run else None if key.revoked_at is not None else key.expires_at
            changed = await self._change(key, expires_at=expires_at, revoked_at=now)
            if changed.cuts:
                self.revoked(key_id)
            return changed

    async def cut_keys(self, key_ids: Collection[str]) -> list[str]:
        """Which of these keys were revoked, by any process, so that their running calls must end."""
        unknown = [key_id for key_id in key_ids if not self._directory.has(key_id)]
        if not unknown:
            return []
        spared = {key.key_id for key in await self._store.list_keys() if not key.cuts}
        return [key_id for key_id in unknown if key_id not in spared]

    async def rotate_key(self, key_id: str, *, grace_us: int) -> tuple[MintedKey, StoredKey]:
        """A new key for the same client. The old one ends after the grace, and never later than it would have.

        Raises NotFound, or ValueError if the key has ended already.
        """
        async with self._changing:
            old = await self._find(key_id)
            now = self._now_us()
            if not old.good(now):
                message = f"Key {key_id} is {old.state(now).value}: make a new one with `keys create {old.client}`."
                raise ValueError(message)
            minted = await self.create_key(old.client, label=old.label)
            end = now + grace_us
            expires_at = end if old.expires_at is None else min(end, old.expires_at)
            return minted, await self._change(old, expires_at=expires_at, revoked_at=None)

    async def list_keys(self) -> Sequence[StoredKey]:
        """All keys ever made, oldest first."""
        return [
            replace(key, last_used_at=self._last_used(key.key_id, key.last_used_at))
            for key in await self._store.list_keys()
        ]

    async def list_clients(self) -> Sequence[Mapping[str, Any]]:
        """All clients, with their terms and the number of their valid keys."""
        now = self._now_us()
        keys = await self._store.list_keys()
        return [
            {
                "name": client.name,
                "created_at": client.created_at,
                "disabled": client.disabled_at is not None,
                "active_keys": sum(key.client == client.name and key.good(now) for key in keys),
                "terms": client.terms,
            }
            for client in await self._store.list_clients()
            if client.deleted_at is None
        ]

    def terms_of(self, client: str) -> ClientTerms:
        """A client's terms; those of a new client if there is none."""
        found = self._directory.clients.client(client)
        return self._defaults if found is None else found.terms

    def _refuse_deleted(self, client: str) -> None:
        """Raises ValueError for a deleted client: a new one of its name would inherit what it has spent."""
        found = self._directory.clients.client(client)
        if found is not None and found.deleted_at is not None:
            raise ValueError(
                f"there was a client {client!r} and it was deleted; its records stay under this name. "
                f"Choose another name, or bring it back with `weighbridge clients restore {client}`"
            )

    async def _find(self, key_id: str) -> StoredKey:
        for key in await self._store.list_keys():
            if key.key_id == key_id:
                return key
        shown = repr(key_id) if len(key_id) <= KEY_ID_LENGTH else "of that id"  # whole keys are pasted here
        message = f"There is no key {shown}. `weighbridge keys list` shows them."
        raise NotFound(message)

    async def _change(self, key: StoredKey, *, expires_at: int | None, revoked_at: int | None) -> StoredKey:
        await self._store.change_key(key.key_id, expires_at=expires_at, revoked_at=revoked_at)
        changed = replace(key, expires_at=expires_at, revoked_at=revoked_at)
        self._directory.put(changed)
        return changed
