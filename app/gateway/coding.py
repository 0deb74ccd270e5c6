"""Content codings: gzip, deflate and zstd, bounded whatever the input claims to be."""

import zlib

import zstandard

from app.domain.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024  # what every decoder must support (RFC 9659)
_OBSERVED_STEP_BYTES = 8 * 1024 * 1024


def decode(coding: bytes, body: bytes, max_bytes: int) -> bytes:
    """A request body, decoded. Never makes more than `max_bytes` + 1.

    Raises UnsupportedMediaType for another coding (or several), InvalidRequest for a body that is not so coded or not
    whole, PayloadTooLarge past the bound.
    """
    try:
        match coding.strip().lower():
            case b"identity" | b"":
                return body
            case b"gzip" | b"x-gzip":
                decoded = _gunzip(body, max_bytes + 1)
            case b"deflate":
                decoded = _inflate(body, max_bytes + 1)
            case b"zstd":
                decoded = _unzstd(body, max_bytes + 1)
            case _:
                message = "Content-Encoding must be gzip, deflate, zstd or identity."
                raise UnsupportedMediaType(message)
    except (zlib.error, zstandard.ZstdError, EOFError):
        message = "The request body does not decode by its Content-Encoding, or is not whole."
        raise InvalidRequest(message) from None
    if len(decoded) > max_bytes:
        message = f"The request body, decoded, is over {max_bytes} bytes."
        raise PayloadTooLarge(message)
    return decoded


def _gunzip(body: bytes, limit: int) -> bytes:
    """All members of a gzip file, as RFC 1952 allows several."""
    out = b""
    while body and len(out) < limit:
        inner = zlib.decompressobj(31)
        out += inner.decompress(body, limit - len(out))
        if not inner.eof and len(out) < limit:
            raise EOFError
        body = inner.unused_data
    return out


def _inflate(body: bytes, limit: int) -> bytes:
    """`deflate` is zlib's format by the standard, and raw deflate from some senders."""
    wrapped = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    inner = zlib.decompressobj(15 if wrapped else -15)
    out = inner.decompress(body, limit)
    if not inner.eof and len(out) < limit:
        raise EOFError
    return out


def _unzstd(body: bytes, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    with decompressor.stream_reader(body, read_across_frames=True) as reader:
        out = bytearray()
        while len(out) < limit and (piece := reader.read(min(limit - len(out), 1024 * 1024))):
            out += piece
    if len(out) < limit and not _whole_zstd(body, len(out)):
        raise EOFError
    return bytes(out)


def _whole_zstd(body: bytes, size: int) -> bool:
    """The reader ends silently where its input does: check the frame's end with the one-frame object."""
    inner = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
    made = len(inner.decompress(body))  # no more than was just made
    return inner.eof and made <= size


class ObservingDecoder:
    """Decodes an answer beside its passing, for the meter only. Upstream is asked for identity; some do not listen."""

    def __init__(self, coding: bytes) -> None:
        """Raises ValueError for what can not be watched."""
        windows = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
        window = windows.get(coding.strip().lower())
        self._inner = zlib.decompressobj(window) if window is not None else None

    def feed(self, chunk: bytes) -> bytes:
        """Decode a piece. Raises zlib.error or ValueError, also for a piece that swells beyond 8 MiB."""
        if self._inner is None:
            message = "a content coding that is not read"
            raise ValueError(message)
        out = self._inner.decompress(chunk, _OBSERVED_STEP_BYTES)
        if self._inner.unconsumed_tail:
            message = "an answer that swells beyond what is read"
            raise ValueError(message)
        return out
