"""The contract of the ClientStore port."""

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256

import pytest

from app.domain.disconnect import DisconnectPolicy
from app.domain.errors import StorageUnavailable
from app.domain.identity.keys import StoredKey
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.terms import NO_TERMS, ClientTerms, GroupTerms
from app.domain.money.windows import Period
from app.gateway.ports import ClientStore, StoredClient, StoredGroup
from app.store.store import Store
from tests.contract.conftest import Form

NOW = 1_790_000_000_000_000


def key(key_id: str, client: str = "alice", created_at: int = NOW, expires_at: int | None = None) -> StoredKey:
    return StoredKey(key_id, client, sha256(key_id.encode()).digest(), created_at, expires_at, None)


@pytest.fixture
async def clients(form: Form) -> AsyncIterator[ClientStore]:
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
    assert await clients.list_clients() == [
        StoredClient("alice", NOW, None, NO_TERMS),
        StoredClient("bob", NOW, None, NO_TERMS),
    ]


async def test_a_key_keeps_its_label(clients: ClientStore) -> None:
    labelled = replace(key("a"), label="run")
    await clients.add_key(labelled)
    assert (list(await clients.list_keys()), list(await clients.load_keys())) == ([labelled], [labelled])


async def test_a_key_id_is_taken_once_and_nothing_is_left_of_the_second(clients: ClientStore) -> None:
    await clients.add_key(key("a"))
    with pytest.raises(ValueError, match="there is a key a already"):
        await clients.add_key(key("a", client="carol"))
    assert await clients.list_keys() == [key("a")]
    assert [client.name for client in await clients.list_clients()] == ["alice"]


async def test_a_client_that_must_be_new_is_made_once(clients: ClientStore) -> None:
    await clients.add_key(key("a"), client_is_new=True)
    with pytest.raises(ValueError, match="or a client alice already"):
        await clients.add_key(key("b"), client_is_new=True)
    assert await clients.list_keys() == [key("a")]


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


async def test_a_rotation_names_the_key_after_it(form: Form) -> None:
    async with form.open(now=lambda: NOW) as store:
        await store.clients.add_key(key("old"))
        await store.clients.add_key(key("new"))
        await store.clients.change_key("old", expires_at=NOW + 9, revoked_at=None, replaced_by="new")
        await store.clients.change_key("old", expires_at=NOW + 8, revoked_at=None)
        kept = {one.key_id: one for one in await store.clients.list_keys()}
    assert (kept["old"].replaced_by, kept["old"].expires_at) == ("new", NOW + 8)


async def test_what_is_changed_outlives_the_process(form: Form) -> None:
    async with form.open() as store:
        await store.clients.add_key(key("a"))
    async with form.open() as store:
        assert await store.clients.load_keys() == [key("a")]


async def test_a_store_that_is_closed_says_so(store: Store) -> None:
    await store.close()
    with pytest.raises(StorageUnavailable):
        await store.clients.add_key(key("a"))


TERMS = ClientTerms(
    limits=Limits(rpm=5, budgets=(Budget(Unit.USD, Period.DAY, 5), Budget(Unit.TOKENS, Period.TOTAL, 7))),
    models=("openai/*",),
    on_disconnect=DisconnectPolicy(7),
    safety_identifier=True,
    output_ceiling=9,
    hard_stop=True,
    group="team",
)


async def test_a_new_client_gets_the_terms_it_came_with_and_an_old_one_keeps_its_own(clients: ClientStore) -> None:
    await clients.add_key(key("a"), TERMS)
    await clients.add_key(key("b"), NO_TERMS)
    assert await clients.list_clients() == [StoredClient("alice", NOW, None, TERMS)]


async def test_terms_are_kept_as_they_were_agreed(form: Form) -> None:
    changed = StoredClient("alice", NOW, NOW + 5, TERMS)
    async with form.open() as store:
        await store.clients.add_key(key("a"))
        await store.clients.change_client(changed)
    async with form.open() as store:
        assert await store.clients.list_clients() == [changed]
        assert await store.clients.load_keys() == [key("a")]  # its terms say that it is disabled


async def test_changing_a_client_that_is_not_there_is_an_error(clients: ClientStore) -> None:
    with pytest.raises(LookupError, match="there is no client nobody"):
        await clients.change_client(StoredClient("nobody", NOW, None, NO_TERMS))


async def test_a_group_is_made_once_and_changed(clients: ClientStore) -> None:
    assert await clients.list_groups() == []
    await clients.put_group(StoredGroup("b", NOW, GroupTerms()))
    await clients.put_group(StoredGroup("a", NOW, GroupTerms()))
    await clients.put_group(StoredGroup("b", NOW + 9, GroupTerms(limits=TERMS.limits, models=("x",))))
    assert await clients.list_groups() == [
        StoredGroup("a", NOW, GroupTerms()),
        StoredGroup("b", NOW, GroupTerms(limits=TERMS.limits, models=("x",))),
    ]
