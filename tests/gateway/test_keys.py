"""Who may call: keys good and bad, what a refusal says, and the changes that operators make."""

import asyncio
import secrets
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import AuthenticationFailed, NotFound
from app.domain.identity.keys import KeyState, MintedKey, StoredKey, mint
from app.gateway.clients.keys import KeyDirectory, KeyService
from app.gateway.clients.terms_service import TermsService
from app.gateway.ports import StoredClient
from app.limits.memory.limiter import MemoryLimiter
from tests.gateway.forms import NOW, HandClock, HandSpending, MemoryClientStore

HOUR = 3_600_000_000


class Desk:
    """The Clients service on a store in memory."""

    def __init__(self, store: MemoryClientStore | None = None) -> None:
        self.time = HandClock()
        self.store = store or MemoryClientStore()
        self.directory = KeyDirectory()
        self.clients = KeyService(self.store, self.directory, self.time.clock.wall_us)

    def opens(self, key: MintedKey) -> bool:
        try:
            return self.directory.authenticate(f"Bearer {key.text}".encode(), self.time.us).key_id == key.key_id
        except AuthenticationFailed:
            return False


@pytest.fixture
def desk() -> Desk:
    return Desk()


GOOD = mint(secrets.token_bytes)
BAD: list[tuple[bytes | None, str]] = [
    (None, "No API key"),
    (b"", "must be `Bearer`"),
    (b"Basic dXNlcjpzZWNyZXRwYXNzd29yZA==", "must be `Bearer`"),
    (b"Bearer", "must be `Bearer`"),
    (GOOD.text.encode(), "must be `Bearer`"),
    (b"Bearer ", "not a Weighbridge key"),
    (b"Bearer sk-or-v1-abcdefghijklmnopqrstuvwxyz", "not a Weighbridge key"),
    (b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.", "not a Weighbridge key"),
    (b"Bearer \xff\xfe\x00", "not a Weighbridge key"),
    (b"Bearer " + GOOD.text.encode()[:-1], "not a Weighbridge key"),
    (b"Bearer " + GOOD.text.encode()[:-1] + b"!", "not a Weighbridge key"),
    (b"Bearer " + GOOD.text.upper().encode(), "not a Weighbridge key"),
    (
        b"Bearer " + GOOD.text[:-7].encode() + (b"1" if GOOD.text[-7] == "0" else b"0") + GOOD.text[-6:].encode(),
        "mistyped",
    ),
    (b"Bearer " + GOOD.text.encode(), "Unknown API key"),
    (b"Bearer x" + GOOD.text.encode(), "not a Weighbridge key"),
    (b"Bearer " + b"x" * 100_000, "not a Weighbridge key"),
]


@pytest.mark.parametrize(("authorization", "message"), BAD, ids=range(len(BAD)))
def test_a_refusal_says_what_is_wrong_and_nothing_of_what_was_given(authorization: bytes | None, message: str) -> None:
    with pytest.raises(AuthenticationFailed, match=message) as refused:
        KeyDirectory().authenticate(authorization, NOW)
    assert ("x-should-retry", "false") in refused.value.headers
    shares_no_secret(authorization or b"", refused.value.message)


def shares_no_secret(given: bytes, message: str) -> None:
    """No eight characters in a row of what was given, but for the words that every message may have."""
    text = given.decode("latin-1")
    for at in range(len(text) - 7):
        piece = text[at : at + 8]
        if piece.strip(" ") and not "Bearer sk-wb-".startswith(piece.lstrip()) and piece not in "`Bearer sk-wb-...`":
            assert piece not in message


@given(st.binary(max_size=80) | st.binary(max_size=80).map(b"Bearer ".__add__))
def test_no_header_does_more_than_be_refused(authorization: bytes) -> None:
    directory = KeyDirectory()
    directory.put(StoredKey(GOOD.key_id, "alice", GOOD.digest, NOW, None, None))
    with pytest.raises(AuthenticationFailed):
        directory.authenticate(authorization, NOW)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", "Bearer {}  "])
def test_the_scheme_is_read_as_http_has_it(form: str) -> None:
    directory = KeyDirectory()
    directory.put(StoredKey(GOOD.key_id, "alice", GOOD.digest, NOW, None, None))
    assert directory.authenticate(form.format(GOOD.text).encode(), NOW).client == "alice"


def test_a_known_id_with_another_secret_is_unknown() -> None:
    other = mint(secrets.token_bytes)
    directory = KeyDirectory()
    directory.put(StoredKey(GOOD.key_id, "alice", other.digest, NOW, None, None))
    with pytest.raises(AuthenticationFailed, match="Unknown API key"):
        directory.authenticate(f"Bearer {GOOD.text}".encode(), NOW)


async def test_a_key_ends_when_its_time_is_up(desk: Desk) -> None:
    key = await desk.clients.create_key("alice", lifetime_us=HOUR)
    desk.time.us += HOUR - 1
    assert desk.opens(key)
    desk.time.us += 1
    assert not desk.opens(key)
    with pytest.raises(AuthenticationFailed, match="expired"):
        desk.directory.authenticate(f"Bearer {key.text}".encode(), desk.time.us)


async def test_a_revoked_key_is_out_at_once_and_for_good(desk: Desk) -> None:
    key = await desk.clients.create_key("alice")
    assert desk.opens(key)
    revoked = await desk.clients.revoke_key(key.key_id)
    assert revoked.revoked_at == NOW
    assert not desk.opens(key)
    desk.time.advance(-3600)
    assert not desk.opens(key)
    again = await desk.clients.revoke_key(key.key_id)
    assert again.revoked_at == NOW
    with pytest.raises(AuthenticationFailed, match="revoked"):
        desk.directory.authenticate(f"Bearer {key.text}".encode(), desk.time.us)


async def test_in_rotation_both_keys_work_until_the_grace_ends(desk: Desk) -> None:
    old = await desk.clients.create_key("alice")
    new, changed = await desk.clients.rotate_key(old.key_id, grace_us=HOUR)
    assert (changed.key_id, changed.client, changed.expires_at) == (old.key_id, "alice", NOW + HOUR)
    assert desk.opens(old)
    assert desk.opens(new)
    desk.time.us += HOUR
    assert not desk.opens(old)
    assert desk.opens(new)


async def test_a_grace_never_lengthens_a_life(desk: Desk) -> None:
    old = await desk.clients.create_key("alice", lifetime_us=HOUR)
    _, changed = await desk.clients.rotate_key(old.key_id, grace_us=5 * HOUR)
    assert changed.expires_at == NOW + HOUR


@pytest.mark.parametrize("ended", ["revoked", "expired"])
async def test_a_key_that_has_ended_is_not_rotated(desk: Desk, ended: str) -> None:
    key = await desk.clients.create_key("alice", lifetime_us=HOUR)
    if ended == "revoked":
        await desk.clients.revoke_key(key.key_id)
    desk.time.us += HOUR
    with pytest.raises(ValueError, match=ended):
        await desk.clients.rotate_key(key.key_id, grace_us=HOUR)
    assert len(desk.store.keys) == 1


async def test_a_key_revoked_while_it_is_rotated_stays_revoked(desk: Desk) -> None:
    old = await desk.clients.create_key("alice")
    desk.store.gate.clear()
    rotation = asyncio.create_task(desk.clients.rotate_key(old.key_id, grace_us=HOUR))
    revocation = asyncio.create_task(desk.clients.revoke_key(old.key_id))
    for _ in range(10):  # turns of the loop: the rotation stands at the gate, the revocation gets as far as it can
        await asyncio.sleep(0)
    desk.store.gate.set()
    await asyncio.gather(rotation, revocation)
    assert not desk.opens(old)
    assert desk.store.keys[old.key_id].state(desk.time.us) is KeyState.REVOKED


async def test_what_the_store_has_is_what_opens_after_a_start(desk: Desk) -> None:
    good = await desk.clients.create_key("alice")
    bad = await desk.clients.create_key("bob")
    await desk.clients.revoke_key(bad.key_id)
    desk.directory.fill([])
    assert not desk.opens(good)
    await desk.clients.load()
    assert desk.opens(good)
    assert not desk.opens(bad)


async def test_the_lists(desk: Desk) -> None:
    first = await desk.clients.create_key("alice")
    await desk.clients.create_key("alice", lifetime_us=HOUR)
    await desk.clients.create_key("bob")
    desk.time.us += HOUR
    assert [key.client for key in await desk.clients.list_keys()] == ["alice", "alice", "bob"]
    assert [(client["name"], client["active_keys"]) for client in await desk.clients.list_clients()] == [
        ("alice", 1),
        ("bob", 1),
    ]
    assert first.text not in repr(await desk.clients.list_keys())


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "é", "x" * 65, "\ud800", "a\n"])
async def test_a_client_has_a_plain_name(desk: Desk, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a client"):
        await desk.clients.create_key(name)
    assert desk.store.keys == {}


async def test_an_unknown_key_id_is_not_found_and_a_pasted_key_is_not_shown(desk: Desk) -> None:
    key = await desk.clients.create_key("alice")
    with pytest.raises(NotFound, match="no0such0id"):
        await desk.clients.revoke_key("no0such0id")
    with pytest.raises(NotFound) as refused:
        await desk.clients.rotate_key(key.text, grace_us=HOUR)
    assert key.text[6:20] not in refused.value.message


class SlowStore(MemoryClientStore):
    """Answers with what it held when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()

    async def load_keys(self) -> Sequence[StoredKey]:
        held = await super().load_keys()
        self.asked.set()
        await self.answers.wait()
        return held

    async def list_clients(self) -> Sequence[StoredClient]:
        held = await super().list_clients()
        self.asked.set()
        await self.answers.wait()
        return held


async def test_what_changes_while_all_is_read_anew_stays_changed() -> None:
    store = SlowStore()
    desk = Desk(store)
    revoked = await desk.clients.create_key("alice")
    loading = asyncio.create_task(desk.clients.load())
    await store.asked.wait()
    await desk.clients.revoke_key(revoked.key_id)
    made = await desk.clients.create_key("bob")
    store.answers.set()
    await loading
    assert desk.opens(made)
    assert not desk.opens(revoked)


async def test_a_client_that_comes_while_all_are_read_anew_is_known() -> None:
    store = SlowStore()
    desk = Desk(store)
    limiter = MemoryLimiter(HandSpending(), time.monotonic_ns, desk.time.clock.wall_us)
    terms_service = TermsService(store, desk.directory.clients, limiter, desk.time.clock.wall_us)
    loading = asyncio.create_task(terms_service.load(prepare=False))
    await store.asked.wait()
    await desk.clients.create_key("bob")
    store.answers.set()
    await loading
    assert terms_service.client("bob").name == "bob"
