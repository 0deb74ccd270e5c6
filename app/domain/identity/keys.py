"""A Key is a client's secret: random, recognisable, and checked for typing errors before it is looked up.

    sk-wb-   0123456789   0123456789012345678901234567890123456789   012345
    prefix   key id       secret                                     checksum
    6        10           40                                         6          = 62 characters

All but the prefix is base62. The key id names the key in lists and in the ledger and is no secret. The secret holds
238 bits, so that one SHA-256 of the whole text is safe to store, without a slow hash. The checksum is the CRC32 of the
56 characters before it, padded with zeros on the left: it detects every single wrong character and every swap of two
neighbours.
"""

import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

PREFIX = "sk-wb-"
KEY_ID_LENGTH = 10
SECRET_LENGTH = 40
CHECKSUM_LENGTH = 6
KEY_LENGTH = len(PREFIX) + KEY_ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH
MAX_LABEL_CHARACTERS = 64
ENTROPY_BYTES = 64
"""Random bytes that one key needs."""

_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUES = bytes.maketrans(_DIGITS, bytes(range(62)))
_PREFIX = PREFIX.encode()
_ID_START = len(PREFIX)
_ID_END = _ID_START + KEY_ID_LENGTH
_CHECKSUM_START = KEY_LENGTH - CHECKSUM_LENGTH
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class KeyState(StrEnum):
    """Whether a stored key is valid."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyFault(StrEnum):
    """Why a token is refused without a look-up."""

    NOT_A_KEY = "not_a_key"  # some other provider's key, or no key at all
    MISTYPED = "mistyped"  # a key of ours by its looks, but the checksum is wrong


class KeyClaim(NamedTuple):
    """A well-formed key before it is looked up. `digest` is the SHA-256 of the whole text."""

    key_id: str
    digest: bytes

    def __repr__(self) -> str:
        return f"KeyClaim(key_id={self.key_id!r})"


@dataclass(slots=True, frozen=True)
class MintedKey:
    """A new key. `text` is shown to its owner once and stored nowhere; repr does not show it."""

    text: str = field(repr=False)
    key_id: str
    digest: bytes = field(repr=False)


@dataclass(slots=True, frozen=True)
class StoredKey:
    """A key as it is stored. Times are microseconds since 1970 UTC; `replaced_by` is the id of the key after it.

    `label` is a name that its maker chose, no secret.
    """

    key_id: str
    client: str
    digest: bytes = field(repr=False)
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    replaced_by: str | None = None
    label: str | None = None
    last_used_at: int | None = None

    def state(self, now_us: int) -> KeyState:
        """The state at `now_us`. A revoked key stays revoked, also when the clock steps back."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        if self.expires_at is not None and now_us >= self.expires_at:
            return KeyState.EXPIRED
        return KeyState.ACTIVE

    @property
    def cuts(self) -> bool:
        """Whether its running calls are ended. A revocation that lets them run sets both times."""
        return self.revoked_at is not None and self.revoked_at != self.expires_at

    def good(self, now_us: int) -> bool:
        """Whether the key is valid at `now_us`."""
        return self.revoked_at is None and (self.expires_at is None or now_us < self.expires_at)

    def matches(self, digest: bytes) -> bool:
        """Whether `digest` is this key's, compared in constant time."""
        return hmac.compare_digest(self.digest, digest)


def mint(random_bytes: Callable[[int], bytes]) -> MintedKey:
    """A new key from `random_bytes(n)`, which returns n fresh random bytes (`secrets.token_bytes`).

    The 50 digits are one number of 512 random bits modulo 62**50, with a bias under 2**-214. Raises ValueError if
    `random_bytes` returns another number of bytes.
    """
    entropy = random_bytes(ENTROPY_BYTES)
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"the random source gave {len(entropy)} bytes where {ENTROPY_BYTES} were asked for")
    body = _PREFIX + _base62(int.from_bytes(entropy, "big"), KEY_ID_LENGTH + SECRET_LENGTH)
    token = body + _base62(zlib.crc32(body), CHECKSUM_LENGTH)
    return MintedKey(token.decode(), token[_ID_START:_ID_END].decode(), sha256(token).digest())


def parse(token: bytes | str) -> KeyClaim | KeyFault:
    """The claim of `token`, or why it cannot be a key. It is compared exactly, untrimmed. Never raises."""
    if isinstance(token, str):
        if not token.isascii():
            return KeyFault.NOT_A_KEY
        token = token.encode()
    # bytes.isalnum() is ASCII only, which is base62 exactly.
    if len(token) != KEY_LENGTH or not token.startswith(_PREFIX) or not token[_ID_START:].isalnum():
        return KeyFault.NOT_A_KEY
    if _checksum(token[_CHECKSUM_START:]) != zlib.crc32(token[:_CHECKSUM_START]):
        return KeyFault.MISTYPED
    return KeyClaim(token[_ID_START:_ID_END].decode(), sha256(token).digest())


def check_client_name(name: str) -> None:
    """Raise ValueError unless `name` can name a client in reports, log lines, URLs and command lines."""
    if name.startswith("sk-"):
        raise ValueError(f"{name[:6]!r}... cannot name a client: it looks like a key, and names are shown everywhere")
    if not _CLIENT_NAME.fullmatch(name):
        rule = "use 1 to 64 of A-Z a-z 0-9 . _ @ - and begin with a letter or digit"
        raise ValueError(f"{name[:80]!r} cannot name a client or group: {rule}")


def check_key_label(label: str) -> None:
    """Raise ValueError unless `label` can stand in lists and log lines."""
    if label.startswith(PREFIX) or not 0 < len(label) <= MAX_LABEL_CHARACTERS or not label.isprintable():
        raise ValueError(f"a label has 1 to {MAX_LABEL_CHARACTERS} printable characters, and is no key")


def check_group_name(name: str) -> None:
    """Raise ValueError unless `name` can name a group. `none` takes a client out of its group."""
    if name.lower() == "none":
        raise ValueError(f"{name!r} cannot name a group: `clients set --group none` leaves one")
    check_client_name(name)


def _base62(number: int, length: int) -> bytes:
    """The lowest `length` base62 digits of `number`, most significant first."""
    digits = bytearray(length)
    for place in range(length - 1, -1, -1):
        number, digit = divmod(number, 62)
        digits[place] = _DIGITS[digit]
    return bytes(digits)


def _checksum(digits: bytes) -> int:
    """The number of six base62 digits. It is written out because a loop takes three times as long, on every call."""
    a, b, c, d, e, f = digits.translate(_VALUES)
    return ((((a * 62 + b) * 62 + c) * 62 + d) * 62 + e) * 62 + f
