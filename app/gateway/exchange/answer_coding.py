"""Content codings of answers: coded answers pass unchanged, and are decoded for the meter and the key guard.

Weighbridge asks upstream for `identity`, and some upstreams code their answers all the same. It reads the codings that
httpx2 reads: gzip, deflate (zlib's form and raw), zstd, br if the library `brotli` is installed, and stacks of them.
Several gzip members or zstd frames are one body; what follows the last of them is ignored, as clients do. Memory is
bounded whatever the input claims to be.
"""

import importlib
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import zstandard

from app.gateway.exchange.request_coding import (
    DEFLATE_STEP_BYTES,
    MOST_MEMBERS,
    ZSTD_STEP_BYTES,
    Member,
    deflate_window,
    zstd_frame,
)

SWELL_LIMIT_BYTES = 8 * 1024 * 1024
"""The most that one piece may decode to; a step may make up to 8 MiB more."""

_TOO_WIDE = "requires too much memory"  # zstd's message for a window over 8 MiB, which clients may accept
_TEXT_BEGINNINGS = (b"{", b"[", b":", b"data:", b"event:", b"id:", b"retry:", b"\xef\xbb\xbf")
_PLAIN = (b"", b"identity", b"none")  # `none` keeps Next.js from coding an answer


class UnreadableError(ValueError):
    """The coding is unknown, or the decoded answer is too large. The answer may be whole."""


class DamagedError(ValueError):
    """The answer does not decode by its coding."""


def is_plain(coding: bytes) -> bool:
    """Whether an answer with this Content-Encoding is not coded."""
    return not _names_in(coding)


def begins_as_text(data: bytes) -> bool:
    """Whether this begins as JSON or events do. Then a proxy has decoded it, whatever its headers say."""
    return data.lstrip().startswith(_TEXT_BEGINNINGS)


class AnswerDecoder:
    """Decodes one answer as it passes."""

    def __init__(self, coding: bytes) -> None:
        """`coding` is the Content-Encoding: one or several, in the order in which they were applied."""
        kinds = [_KINDS.get(name) for name in reversed(_names_in(coding))]
        self._layers = [_Layer(kind) for kind in kinds if kind is not None]
        self._readable = len(self._layers) == len(kinds)

    @property
    def whole(self) -> bool:
        """Whether the answer could end here: no member, frame or stream is open."""
        return self._readable and all(layer.whole for layer in self._layers)

    def feed(self, data: bytes) -> bytes:
        """What a client can decode by now and could not before. Raises UnreadableError or DamagedError."""
        if not self._readable:
            raise UnreadableError
        for layer in self._layers:
            data = layer.feed(data)
        return data


class _Kind(NamedTuple):
    """One coding: its decoder of a member, the input bytes that make 8 MiB at most, whether members may repeat."""

    start: Callable[[], Member]
    step: int
    several: bool


class _Layer:
    """One coding of one answer."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        self._member: Member | None = None
        self._made_something = False  # by the open member
        self._members = 0  # that have ended
        self._done = False  # the rest is ignored

    @property
    def whole(self) -> bool:
        return self._members > 0 and not (self._member is not None and self._made_something)

    def feed(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        size = position = 0
        while position < len(data) and not self._done:
            piece, unused = self._feed_step(data[position : position + self._kind.step])
            position = min(position + self._kind.step, len(data)) - unused
            size += len(piece)
            pieces.append(piece)
            if size > SWELL_LIMIT_BYTES or self._members > MOST_MEMBERS:
                raise UnreadableError
        return b"".join(pieces)

    def _feed_step(self, data: bytes) -> tuple[bytes, int]:
        """What the step decodes to, and how many bytes at its end do not belong to this member."""
        if self._member is None:
            self._member, self._made_something = self._kind.start(), False
        member = self._member
        try:
            piece = member.decompress(data)
        except _LIBRARY_ERRORS as error:
            if self._members and not self._made_something:  # padding, which no client reads
                self._done = True
                return b"", 0
            raise (UnreadableError if _TOO_WIDE in str(error) else DamagedError) from error
        self._made_something = self._made_something or bool(piece)
        if not member.eof:
            return piece, 0
        self._member = None
        self._members += 1
        self._done = not self._kind.several
        return piece, len(member.unused_data)


class _Deflate:
    """`deflate` in either of its two forms, known by the first two bytes."""

    unused_data = b""

    def __init__(self) -> None:
        self._head = b""
        self._inner: Any = None

    def decompress(self, data: bytes, /) -> bytes:
        if self._inner is None:
            self._head += data
            if len(self._head) < 2:
                return b""
            data = self._head
            self._inner = zlib.decompressobj(deflate_window(data))
        decoded: bytes = self._inner.decompress(data)
        return decoded

    @property
    def eof(self) -> bool:
        return self._inner is not None and bool(self._inner.eof)


class _Brotli:
    unused_data = b""

    def __init__(self) -> None:
        self._inner = _brotli.Decompressor()

    def decompress(self, data: bytes, /) -> bytes:
        decoded: bytes = self._inner.process(data, output_buffer_limit=SWELL_LIMIT_BYTES)
        if not self._inner.can_accept_more_data():
            raise UnreadableError
        return decoded

    @property
    def eof(self) -> bool:
        return bool(self._inner.is_finished())


def _names_in(coding: bytes) -> list[bytes]:
    return [name for name in (part.strip().lower() for part in coding.split(b",")) if name not in _PLAIN]


def _brotli_library() -> Any:  # noqa: ANN401 - a module, or None
    """The library, if it is installed and its output can be bounded (version 1.2)."""
    try:
        library = importlib.import_module("brotli")
    except ImportError:
        return None
    return library if hasattr(library.Decompressor, "can_accept_more_data") else None


_brotli = _brotli_library()
_GZIP = _Kind(partial(zlib.decompressobj, 31), DEFLATE_STEP_BYTES, several=True)
_KINDS = {
    b"gzip": _GZIP,
    b"x-gzip": _GZIP,
    b"deflate": _Kind(_Deflate, DEFLATE_STEP_BYTES, several=False),
    b"zstd": _Kind(zstd_frame, ZSTD_STEP_BYTES, several=True),
}
_LIBRARY_ERRORS: tuple[type[Exception], ...] = (zlib.error, zstandard.ZstdError)
if _brotli is not None:
    _KINDS[b"br"] = _Kind(_Brotli, DEFLATE_STEP_BYTES, several=False)
    _LIBRARY_ERRORS = (*_LIBRARY_ERRORS, _brotli.error)
