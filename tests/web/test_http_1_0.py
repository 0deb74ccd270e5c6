"""HTTP/1.0 clients: no chunks, an end that is the connection's, and a break that cannot be taken for one."""

import pytest

from app.domain.errors import UpstreamProtocolError
from tests.gateway.house import COMPLETED, DELTA, House
from tests.web.front import Front, RawClient

BODY = b'{"model":"m","stream":true}'


async def ask(front: Front, *headers: str, body: bytes = BODY, version: str = "1.0") -> RawClient:
    client = await front.connect()
    lines = [
        f"POST /v1/responses HTTP/{version}",
        "host: localhost",
        f"authorization: Bearer {front.key}",
        "content-type: application/json",
        *headers,
    ]
    client.send("\r\n".join([*lines, "", ""]).encode() + body)
    return client


async def test_a_stream_ends_with_the_connection(front: Front, house: House) -> None:
    client = await ask(front, f"content-length: {len(BODY)}")
    call = await house.upstream.next_call()
    call.stream_head()
    call.data(DELTA)
    call.data(COMPLETED)
    call.end()
    status, headers = await client.head()
    names = dict(headers)
    assert (status, names[b"connection"]) == (200, b"close")
    assert not {b"transfer-encoding", b"content-length"} & set(names)
    assert await client.reader.read() == DELTA + COMPLETED
    await client.close()


async def test_a_stream_that_breaks_off_does_not_end(front: Front, house: House) -> None:
    """A proper end of the connection would make half an answer look whole."""
    client = await ask(front, f"content-length: {len(BODY)}")
    call = await house.upstream.next_call()
    call.stream_head()
    call.data(DELTA)
    await client.head()
    assert await client.read_exactly(len(DELTA)) == DELTA
    call.broken(UpstreamProtocolError("It broke off."))
    with pytest.raises(ConnectionResetError):
        await client.reader.read()
    await client.close()


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_each_answer_ends_its_connection(front: Front, connection: str) -> None:
    client = await ask(front, f"connection: {connection}", "content-length: 2", body=b"[]")
    answer = await client.answer()
    answer.is_ours(400, "invalid_request")
    assert answer.header("connection") == "close"
    assert await client.reader.read() == b""
    await client.close()


async def test_no_interim_answer_is_sent(front: Front) -> None:
    client = await ask(front, "expect: 100-continue", "content-length: 2", body=b"[]")
    (await client.answer()).is_ours(400, "invalid_request")
    await client.close()


@pytest.mark.parametrize(
    ("version", "framing"),
    [("1.0", "transfer-encoding: chunked"), ("0.9", "content-length: 2"), ("1.2", "content-length: 2")],
)
async def test_what_is_no_http_1_0_is_refused(front: Front, house: House, version: str, framing: str) -> None:
    client = await ask(front, framing, body=b"{}", version=version)
    (await client.answer()).is_ours(400, "invalid_request")
    assert await client.reader.read() == b""
    assert house.upstream.calls == []
    await client.close()
