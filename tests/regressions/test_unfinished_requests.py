"""Issue 12, A3: heads, trailers and chunk extensions are bounded while they arrive."""

from contextlib import ExitStack

import pytest

from tests.e2e.client import dial
from tests.e2e.program import Gateway
from tests.edges.process_memory import resident_bytes
from tests.edges.raw_client import say

HEAD = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


def with_key(gateway: Gateway, data: bytes) -> bytes:
    return data + b"Authorization: Bearer %b\r\n\r\n" % gateway.key.encode()


@pytest.mark.parametrize(
    "rest",
    [
        b"a:\r\n" * 300,
        b"a: %b\r\n" % (b"b" * 1000) * 70,
        b"a: " + b"b" * 66_000,
        b"a" * 66_000,
        b"a: b\r\n" * 256 + b"c",
    ],
    ids=["many", "large", "a value without an end", "a name without an end", "one too many"],
)
def test_a_head_that_is_too_large_is_refused_before_it_ends(gateway: Gateway, rest: bytes) -> None:
    heard = say(gateway.url, HEAD, rest)
    assert (heard.only.status, heard.only.error_type, heard.ending) == (431, "headers_too_large", "closed")


@pytest.mark.parametrize(
    "rest",
    [
        b"0\r\n" + b"a: b\r\n" * 300,
        b"0\r\n" + b"a: %b\r\n" % (b"b" * 1000) * 70,
        b"0\r\na: " + b"b" * 66_000,
        b"5;" + b"e" * 66_000,
        b"1;%b\r\n{\r\n" % (b"e" * 500) * 200,
    ],
    ids=["many trailers", "large trailers", "a trailer without an end", "an extension", "extensions"],
)
def test_so_are_trailers_and_chunk_extensions(gateway: Gateway, rest: bytes) -> None:
    heard = say(gateway.url, with_key(gateway, CHUNKED), rest)
    assert (heard.only.status, heard.only.error_type, heard.ending) == (431, "headers_too_large", "closed")


@pytest.mark.parametrize(
    "rest", [b"0\r\na: " + b"b" * 66_000, b"5;" + b"e" * 66_000], ids=["a trailer", "an extension"]
)
def test_small_chunks_buy_no_room_for_them(gateway: Gateway, rest: bytes) -> None:
    """What small chunks had left of their own framing was saved up: it became room for one large trailer at the end."""
    heard = say(gateway.url, with_key(gateway, CHUNKED), b"1\r\n \r\n" * 20_000, rest)
    assert (heard.only.status, heard.only.error_type, heard.ending) == (431, "headers_too_large", "closed")


def test_unfinished_heads_cost_little(gateway: Gateway) -> None:
    """150 of 64 KB in short lines cost 1.9 MB each."""
    pid = gateway.process.popen.pid
    before = resident_bytes(pid)
    with ExitStack() as stack:
        for _ in range(150):
            client = stack.enter_context(dial(gateway.url))
            client.sendall(HEAD + b"a:\r\n" * 250 + b"a: " + b"b" * 60_000)
        assert gateway.get("/healthz").status == 200
        grown = resident_bytes(pid) - before
    assert grown < 150 * 200_000, f"{grown / 150 / 1000:.0f} KB each"
