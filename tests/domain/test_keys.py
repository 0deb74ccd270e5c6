"""Keys: minting and parsing are inverse, typing errors are seen, a stored key ends when it should."""

import secrets
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.identity.keys import (
    ENTROPY_BYTES,
    KEY_LENGTH,
    PREFIX,
    KeyClaim,
    KeyFault,
    KeyState,
    MintedKey,
    StoredKey,
    check_client_name,
    mint,
    parse,
)

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
entropies = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)
minted_keys = entropies.map(lambda entropy: mint(lambda _: entropy))
places = st.integers(0, KEY_LENGTH - 1)


def stored(expires_at: int | None = None, revoked_at: int | None = None) -> StoredKey:
    return StoredKey("0123456789", "alice", b"d" * 32, 100, expires_at, revoked_at)


@given(minted_keys)
def test_what_is_minted_is_parsed(key: MintedKey) -> None:
    assert parse(key.text) == parse(key.text.encode()) == KeyClaim(key.key_id, key.digest)
    assert key.digest == sha256(key.text.encode()).digest()


@given(minted_keys)
def test_shape(key: MintedKey) -> None:
    assert key.text.startswith(PREFIX + key.key_id)
    assert len(key.key_id) == 10
    assert len(key.text) == KEY_LENGTH == 62
    assert set(key.text[len(PREFIX) :]) <= set(BASE62)


@given(minted_keys, places, st.integers(0, 255))
def test_any_one_changed_byte_fails(key: MintedKey, place: int, byte: int) -> None:
    token = bytearray(key.text.encode())
    if token[place] == byte:
        return
    token[place] = byte
    fault = parse(bytes(token))
    looks_right = place >= len(PREFIX) and chr(byte) in BASE62
    assert fault is (KeyFault.MISTYPED if looks_right else KeyFault.NOT_A_KEY)


@given(minted_keys, places)
def test_swapped_neighbours_fail(key: MintedKey, place: int) -> None:
    text = key.text[:place] + key.text[place : place + 2][::-1] + key.text[place + 2 :]
    assert text == key.text or isinstance(parse(text), KeyFault)


@given(minted_keys, places, places)
def test_any_swap_fails_or_is_another_key(key: MintedKey, here: int, there: int) -> None:
    token = list(key.text)
    token[here], token[there] = token[there], token[here]
    text = "".join(token)
    claim = parse(text)
    assert text == key.text or isinstance(claim, KeyFault) or claim.digest != key.digest


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_other_text_is_not_a_key(token: bytes | str) -> None:
    assert parse(token) is KeyFault.NOT_A_KEY


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text[:-1],
        lambda text: text.upper(),
        lambda text: text[:-1] + "é",
        lambda text: text[:-1] + "٣",  # a digit, but not an ASCII one
        lambda text: text[:20] + "\0" + text[21:],
        lambda text: text[:20] + "-" + text[21:],
        lambda text: "sk-or-" + text[6:],
    ],
)
def test_nothing_is_mended(change: object) -> None:
    assert callable(change)
    assert parse(change(mint(secrets.token_bytes).text)) is KeyFault.NOT_A_KEY


def test_known_key() -> None:
    """Pins the format: keys in the hands of clients must stay good across versions."""
    key = mint(lambda count: bytes(range(count)))
    assert key.text == "sk-wb-yJqrQy5B0Gcb0VZXHtbKLaMqUiIawolD691iK8Ufvf9Ncn7q8d0a7nmf"


def test_minting_spreads_over_the_alphabet() -> None:
    """Each digit of the key id should be seen about 400 times of 24,800; seven standard deviations either way."""
    text = "".join(mint(secrets.token_bytes).key_id for _ in range(2480))
    assert all(260 < text.count(digit) < 540 for digit in BASE62)


def test_minting_differs_each_time() -> None:
    assert len({mint(secrets.token_bytes).key_id for _ in range(1000)}) == 1000


@pytest.mark.parametrize("size", [0, ENTROPY_BYTES - 1, ENTROPY_BYTES + 1])
def test_a_random_source_that_miscounts_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"gave {size} bytes"):
        mint(lambda _: bytes(size))


def test_no_repr_shows_a_secret() -> None:
    key = mint(secrets.token_bytes)
    claim = parse(key.text)
    for shown in (
        repr(key),
        str(key),
        f"{key}",
        repr(claim),
        repr(StoredKey("0123456789", "a", key.digest, 0, None, None)),
    ):
        assert key.text[16:56] not in shown
        assert repr(key.digest) not in shown


def test_digest_is_compared_whole() -> None:
    assert stored().matches(b"d" * 32)
    assert not stored().matches(b"d" * 31)
    assert not stored().matches(b"d" * 31 + b"e")


@pytest.mark.parametrize(
    ("key", "now", "state"),
    [
        (stored(), 10**18, KeyState.ACTIVE),
        (stored(expires_at=200), 199, KeyState.ACTIVE),
        (stored(expires_at=200), 200, KeyState.EXPIRED),
        (stored(revoked_at=150), 151, KeyState.REVOKED),
        (stored(revoked_at=150), 149, KeyState.REVOKED),  # the clock went back
        (stored(expires_at=200, revoked_at=150), 300, KeyState.REVOKED),
    ],
)
def test_states(key: StoredKey, now: int, state: KeyState) -> None:
    assert key.state(now) is state


@given(st.none() | st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(0, 9))
def test_good_is_active(expires_at: int | None, revoked_at: int | None, now: int) -> None:
    key = stored(expires_at, revoked_at)
    assert key.good(now) is (key.state(now) is KeyState.ACTIVE)


@pytest.mark.parametrize("name", ["a", "0", "alice", "alice@example.org", "build-bot_2.x", "A" * 64])
def test_client_names(name: str) -> None:
    check_client_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "sk-wb-m8tNkaBqZV",
        "",
        "A" * 65,
        "-rf",
        ".hidden",
        "_x",
        "@x",
        "a b",
        "a/b",
        "a\n",
        "a\0",
        "é",
        "a;b",
        "a'b",
        "٣",
    ],
)
def test_other_client_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a client"):
        check_client_name(name)
