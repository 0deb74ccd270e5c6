"""Looks for the upstream key in what goes to clients, and breaks an answer off that holds it.

In a stream the key is found however chunks are cut, and with any of its characters written as JSON escapes. Text that
ends with eight or more leading characters of the key waits for the next chunk, so that at most seven of them ever pass.
Short texts (error bodies, headers) are also searched with all their escapes undone.

It uses find() and not `in`, since CPython's `in` first asks whether its operand is a number, which costs more than the
search.
"""

import re
from binascii import a2b_qp
from typing import Protocol

from app.domain.masking import JWT_START, KEY_START, MASK, mask_keys
from app.domain.records import Record

SHORTEST_SECRET = 16
"""Shorter keys are placeholders of local servers ("ollama", "lm-studio") and appear in ordinary text."""

START_CHARACTERS = 8
"""A chunk that ends in so many leading characters of the key is held until the next chunk."""

_PREFIX_CHARACTERS = 16
"""A short text (a name, an id) with so many leading characters of the key does not go into a record."""

_ESCAPE = b"\\u00"
_ESCAPE_BYTES = 6
_IN_ESCAPE = frozenset(b"\\u0123456789abcdefABCDEF")
_ROUNDS = 3
"""How often escapes are undone: text in JSON in a URL has two layers."""


_FROM_UPSTREAM = (
    "model_served",
    "response_id",
    "generation_id",
    "upstream_request_id",
    "error_type",
    "error_detail",
    "cost_detail",
)


class Watch(Protocol):
    """Decides which bytes of one answer may pass. `held`: some wait for the next chunk."""

    @property
    def held(self) -> object: ...

    def screen(self, chunk: bytes) -> bytes | None:
        """The bytes that pass, b"" if all of them wait, None if the answer must not go on."""

    def release(self) -> bytes:
        """The held bytes, once the answer has ended."""


class KeyGuard:
    """Finds one upstream's key. `watch()` makes the state for one answer. Its repr has no key."""

    __slots__ = ("_key", "_many_escapes", "_prefix", "_spelling")

    def __init__(self, key: str) -> None:
        self._key = key.encode("ascii") if len(key) >= SHORTEST_SECRET else b""
        self._prefix = key[:_PREFIX_CHARACTERS] if self._key else ""
        self._many_escapes = len(key) // 2
        self._spelling = _Spelling(self._key)

    def __repr__(self) -> str:
        return "KeyGuard()"

    def found_in(self, data: bytes) -> bool:
        """Whether the data holds the whole key, plain or escaped in any usual way. For short texts."""
        if not self._key:
            return False
        if data.find(self._key) >= 0:
            return True
        for _ in range(_ROUNDS):
            if data.find(b"&#") >= 0 and self._spelling.entities.search(data) is not None:
                return True
            if data.find(b"%") < 0 and data.find(b"\\") < 0 and data.find(b"\0") < 0:
                return False
            data = _unescaped(data)
            if data.find(self._key) >= 0:
                return True
        return False

    def found_in_headers(self, data: bytes) -> bool:
        """The same for the headers of every answer: escapes are undone only if there are many.

        Cloudflare's `report-to` alone has ten, and undoing them costs 4 us (measured). A key needs no escaping, so that
        an escaped one is escaped throughout.
        """
        if not self._key or data.find(self._key) >= 0:
            return bool(self._key)
        return data.count(b"%") + data.count(b"\\") >= self._many_escapes and self.found_in(data)

    def mask(self, text: str) -> str:
        """The text for a record: masked if it has the beginning of the key, or anything that looks like a key."""
        if KEY_START in text or JWT_START in text:
            text = mask_keys(text)
        return MASK if self._prefix and self._prefix in text else text

    def keep_out(self, record: Record) -> None:
        """Mask upstream's texts in a record as mask() does; a text with the beginning of the key becomes None."""
        texts = f"{record.model_served} {record.response_id} {record.error_type} {record.error_detail}"
        texts = f"{texts} {record.generation_id} {record.upstream_request_id} {record.cost_detail}"
        if KEY_START in texts or JWT_START in texts or (self._prefix and self._prefix in texts):
            for name in _FROM_UPSTREAM:
                value = getattr(record, name)
                if value is not None:
                    holds = bool(self._prefix) and self._prefix in value
                    setattr(record, name, None if holds else mask_keys(value))

    def watch(self) -> "KeyWatch":
        """A watch over one answer."""
        return KeyWatch(self._key, self._spelling)


class KeyWatch:
    """Screens the chunks of one answer. `held` are bytes that may begin the key and have not passed."""

    __slots__ = ("_key", "_passed", "_spelling", "held")

    def __init__(self, key: bytes, spelling: "_Spelling") -> None:
        self._key = key
        self._spelling = spelling
        self._passed = b""  # the last bytes that passed, while they may begin the key
        self.held = b""

    def screen(self, chunk: bytes) -> bytes | None:
        """The held bytes and the chunk, up to what may begin the key. None if the key is in them."""
        spelling = self._spelling
        if (
            chunk.find(spelling.start) < 0
            and chunk.find(spelling.mark) < 0
            and chunk[-1] not in spelling.last_bytes
            and not self._passed
            and not self.held
        ) or not self._key:
            return chunk
        return self._screen_closely(chunk)

    def release(self) -> bytes:
        """The held bytes, once the answer has ended: they are not the key. From then on everything passes."""
        held, self.held, self._key = self.held, b"", b""
        return held

    def _screen_closely(self, chunk: bytes) -> bytes | None:
        spelling, before, held = self._spelling, self._passed, self.held
        inside = spelling.may_begin_in(chunk)
        if not (inside or before or held or spelling.may_be_cut_at_end(chunk)):
            return chunk
        passed = len(before)
        text = before + held + chunk
        reach = len(text) if inside else passed + len(held) + spelling.longest
        if spelling.whole.search(text, 0, reach) is not None:
            return None
        opening = spelling.opening_of_key(text)
        at = max(passed, opening)
        self.held = text[at:]
        if self.held:
            self._passed = text[opening:passed]
        else:
            self._passed = text[-spelling.longest_start :] if spelling.may_be_cut_at_end(text) else b""
        return text[passed:at]


class _Spelling:
    r"""The ways to write the key in JSON: each character plain or as `\u00XX`, a slash also as `\/`."""

    def __init__(self, key: bytes) -> None:
        spelled = [_spelled(code) for code in key]
        self.start = key[:START_CHARACTERS]
        slashed = b"/" in self.start
        self.mark = b"\\" if slashed else _ESCAPE  # every escape that matters begins with it
        self._escaped = re.compile(rb"\\u00[2-7]|\\/" if slashed else rb"\\u00[2-7]")  # the escapes that matter
        self.whole = re.compile(b"".join(spelled))
        self.entities = re.compile(b"".join(map(_with_entities, key)))
        self.last_bytes = _IN_ESCAPE.union(
            self.start
        )  # a chunk that ends in a beginning of the key ends in one of these
        self.longest = len(key) * _ESCAPE_BYTES
        self.longest_start = START_CHARACTERS * _ESCAPE_BYTES
        self._beginnings = tuple(key[:length] for length in range(1, START_CHARACTERS))
        self._start = re.compile(rb"(?=(%b))" % b"".join(spelled[:START_CHARACTERS]))  # also where two overlap
        self._characters = [re.compile(one) for one in spelled]

    def may_begin_in(self, chunk: bytes) -> bool:
        """Whether the chunk may hold eight leading characters of the key, cut or not."""
        return chunk.find(self.start) >= 0 or self._escaped.search(chunk) is not None

    def may_be_cut_at_end(self, text: bytes) -> bool:
        """Whether the text may end in fewer than eight leading characters of the key, or within an escape."""
        return (
            text.endswith(self._beginnings)
            or text.find(b"\\", 1 - _ESCAPE_BYTES) >= 0
            or self._escaped.search(text, len(text) - self.longest_start) is not None
        )

    def opening_of_key(self, text: bytes) -> int:
        """Where the text's last part starts that is a beginning of the key (eight characters or more); else its end."""
        for found in self._start.finditer(text, max(0, len(text) - self.longest)):
            if self._runs_out(text, found.end(1)):
                return found.start()
        return len(text)

    def _runs_out(self, text: bytes, position: int) -> bool:
        """Whether only the key's next characters follow; the last may be cut within its escape."""
        for character in self._characters[START_CHARACTERS:]:
            found = character.match(text, position)
            if found is None:
                return len(text) - position < _ESCAPE_BYTES and _cut_escape(text[position:])
            position = found.end()
        return False


def _spelled(code: int) -> bytes:
    plain = re.escape(bytes((code,)))
    slash = rb"|\\/" if code == ord("/") else b""
    return rb"(?:%b|\\u00(?i:%02x)%b)" % (plain, code, slash)


def _with_entities(code: int) -> bytes:
    """The ways to write a character in HTML."""
    return rb"(?:%b|&#0*%d;|&#[xX]0*(?i:%x);)" % (re.escape(bytes((code,))), code, code)


def _cut_escape(rest: bytes) -> bool:
    return not rest or _ESCAPE.startswith(rest[:4])


def _unescaped(data: bytes) -> bytes:
    """The text with JSON and percent escapes undone, quickly even for a megabyte of any text.

    Remaining backslashes and NULs (UTF-16) are removed: no key has any.
    """
    while data.find(b"\\\\") >= 0:
        data = data.replace(b"\\\\", b"\\")
    data = data.replace(b"\\u00", b"%").replace(b"\\x", b"%").replace(b"\\", b"").replace(b"\0", b"")
    # Quoted-printable is percent encoding with another sign, and its decoder skips what is malformed.
    return a2b_qp(data.replace(b"=", b"=3D").replace(b"%", b"="))
