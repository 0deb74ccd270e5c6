"""Content codings of requests: gzip, deflate and zstd, bounded whatever the input claims to be."""

import zlib
from collections.abc import Callable, Generator
from functools import partial
from typing import Protocol

import zstandard

from app.domain.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024  # what every decoder must support (RFC 9659)

DEFLATE_STEP_BYTES = 4 * 1024
ZSTD_STEP_BYTES = 256
"""Bytes that are decoded at a time, so that a bomb makes 8 MiB at most past the bound: a byte of deflate makes up to
1,032, one of zstd 32,768. Such small steps cost zstd 7 us a kilobyte, measured."""

_PAUSE_BYTES = 1024 * 1024
"""Bytes that are read and made between two pauses."""

MOST_MEMBERS = 1024
"""Members of one body. Empty ones take 13-20 bytes and decode to nothing, so that only their number bounds them."""


class Member(Protocol):
    """One gzip member, zlib stream or zstd frame, as its library decodes it."""

    def decompress(self, data: bytes, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


Steps = Generator[int, None, bytes]
"""Each step yields how many bytes have been made so far."""


def decode(coding: bytes, body: bytes, max_bytes: int) -> Steps:
    """Decode a request body in steps of some milliseconds. Never makes more than `max_bytes` and 8 MiB.

    Several gzip members or zstd frames are one body, as their standards say. Raises UnsupportedMediaType for another
    coding or a stack of codings, InvalidRequest for a body that is not so coded, not whole, or followed by something
    else, PayloadTooLarge past the bound.
    """
    try:
        match coding.strip().lower():
            case b"identity" | b"":
                return body
            case b"gzip" | b"x-gzip":
                start = partial(zlib.decompressobj, 31)
                return (yield from _members(start, body, DEFLATE_STEP_BYTES, max_bytes))
            case b"deflate":
                start = partial(zlib.decompressobj, deflate_window(body))
                return (yield from _members(start, body, DEFLATE_STEP_BYTES, max_bytes, most=1))
            case b"zstd":
                return (yield from _members(zstd_frame, body, ZSTD_STEP_BYTES, max_bytes))
    except (zlib.error, zstandard.ZstdError, EOFError):
        message = "The request body does not decode by its Content-Encoding, or is not whole."
        raise InvalidRequest(message) from None
    message = "Content-Encoding must be gzip, deflate, zstd or identity."
    raise UnsupportedMediaType(message)


def _members(start: Callable[[], Member], body: bytes, step: int, max_bytes: int, most: int = MOST_MEMBERS) -> Steps:
    """Decode a body member by member. Raises EOFError if the last one is cut, or there are too many."""
    pieces: list[bytes] = []
    size = position = work = 0
    for _ in range(most):
        member = start()
        while not member.eof:
            if position >= len(body):
                raise EOFError
            piece = member.decompress(body[position : position + step])
            position = min(position + step, len(body))
            size += len(piece)
            if size > max_bytes:
                message = f"The request body, decoded, is over {max_bytes} bytes."
                raise PayloadTooLarge(message)
            work += step + len(piece)
            pieces.append(piece)
            if work > _PAUSE_BYTES:
                work = 0
                yield size
        position -= len(member.unused_data)
        if position == len(body):
            return b"".join(pieces)
    raise EOFError


def zstd_frame() -> Member:
    """A decoder for one frame of zstd."""
    frame: Member = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
    return frame


def deflate_window(body: bytes) -> int:
    """The window for zlib. `deflate` means zlib's format by the standard, and raw deflate from some senders."""
    wrapped = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return 15 if wrapped else -15
