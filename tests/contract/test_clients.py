"""The contract of the ClientStore port."""

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from app.domain.errors import StorageUnavailable
from app.domain.keys import StoredKey
from app.gateway.ports import ClientStore
from app.store.sqlite import SqliteStore
from tests.contract.conftest import SqliteForm

NOW = 1_790_000_000_000_000


def key(key_id: str, client: str = "alice", created_at: int = NOW, expires_at: int | None = None) -> StoredKey:
    return StoredKey(key_id, client, sha256(key_id.encode()).digest(), created_at, expires_at, None)


@pytest.fixture
async def clients(form: SqliteForm) -> AsyncIterator[ClientStore]:
    async with form.open(now=lambda: NOW) as store:
        yield store.clients


async def test_a_key_is_kept_as_it_was_and_makes_its_client(clients: ClientStore) -> None:
    await clients.add_key(key("b"))
    await clients.add_key(key("a", created_at=NOW + 1, expires_at=NOW + 5))
    await clients.add_key(key("c", client="bob"))
    assert await clients.list_keys() == [
        key("b"),
        key("c", client="bob"),
        key("a", created_at=NOW + 1, expires_at=NOW + 5),
    ]
    assert [dict(client) for client in await clients.list_clients()] == [
        {"name": "alice", "created_at": NOW, "disabled": False},
        {"name": "bob", "created_at": NOW, "disabled": False},
    ]


async def test_a_key_id_is_taken_once_and_nothing_is_left_of_the_second(clients: ClientStore) -> None:
    await clients.add_key(key("a"))
    with pytest.raises(ValueError, match="there is a key a already"):
        await clients.add_key(key("a", client="carol"))
    assert await clients.list_keys() == [key("a")]
    assert [client["name"] for client in await clients.list_clients()] == ["alice"]


async def test_only_keys_that_could_be_good_are_loaded(clients: ClientStore) -> None:
    for key_id in ("good", "revoked", "grace", "over"):
        await clients.add_key(key(key_id))
    await clients.add_key(key("expired", expires_at=NOW))
    await clients.change_key("revoked", expires_at=None, revoked_at=NOW - 1)
    await clients.change_key("grace", expires_at=NOW + 1, revoked_at=None)
    await clients.change_key("over", expires_at=NOW - 1, revoked_at=None)
    loaded = await clients.load_keys()
    assert sorted(loaded, key=lambda one: one.key_id) == [key("good"), key("grace", expires_at=NOW + 1)]
    assert {one.key_id for one in loaded} == {one.key_id for one in await clients.list_keys() if one.good(NOW)}


async def test_changing_a_key_that_is_not_there_is_an_error(clients: ClientStore) -> None:
    with pytest.raises(LookupError, match="there is no key nobody"):
        await clients.change_key("nobody", expires_at=None, revoked_at=NOW)


async def test_a_rotation_names_the_key_after_it(form: SqliteForm) -> None:
    async with form.open(now=lambda: NOW) as store:
        await store.clients.add_key(key("old"))
        await store.clients.add_key(key("new"))
        await store.clients.change_key("old", expires_at=NOW + 9, revoked_at=None, replaced_by="new")
        await store.clients.change_key("old", expires_at=NOW + 8, revoked_at=None)
        kept = {one.key_id: one for one in await store.clients.list_keys()}
    assert (kept["old"].replaced_by, kept["old"].expires_at) == ("new", NOW + 8)


async def test_what_is_changed_outlives_the_process(form: SqliteForm) -> None:
    async with form.open() as store:
        await store.clients.add_key(key("a"))
    async with form.open() as store:
        assert await store.clients.load_keys() == [key("a")]


async def test_a_store_that_is_closed_says_so(store: SqliteStore) -> None:
    await store.close()
    with pytest.raises(StorageUnavailable):
        await store.clients.add_key(key("a"))
