"""Reading a request: what is refused unread, what while it is read, and a client that leaves meanwhile."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import Receive

from app.domain.errors import ApiError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from app.gateway.admission.body_memory import BodyMemory
from app.web.doors.request_body import ClientLeft, bounded, read_request

JSON = (b"content-type", b"application/json")


async def read(values: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """The body alone."""
    body, _ = await read_request(values, receive, max_bytes, BodyMemory(10**9), "alice")
    return body


class Client:
    """Sends the pieces, then leaves or goes silent."""

    def __init__(self, pieces: list[bytes], *, whole: bool = True) -> None:
        last = len(pieces) - 1
        self.messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": not whole or at < last}
            for at, piece in enumerate(pieces)
        ]
        self.received = 0

    async def receive(self) -> dict[str, Any]:
        self.received += 1
        return self.messages.pop(0) if self.messages else {"type": "http.disconnect"}


@given(st.lists(st.binary(max_size=20), min_size=1).filter(any))
async def test_the_pieces_are_the_body(pieces: list[bytes]) -> None:
    client = Client(pieces)
    assert await read(dict([JSON]), client.receive, 10_000) == b"".join(pieces)
    assert client.received == len(pieces)


async def test_a_message_without_more_is_the_last() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    assert await read(dict([JSON]), receive, 100) == b"{}"


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ([], UnsupportedMediaType),
        ([(b"content-type", b"text/plain")], UnsupportedMediaType),
        ([JSON, (b"content-length", b"101")], PayloadTooLarge),
    ],
)
async def test_what_the_head_tells_is_refused_unread(
    headers: list[tuple[bytes, bytes]], refusal: type[ApiError]
) -> None:
    client = Client([b"{}"])
    with pytest.raises(refusal):
        await read(dict(headers), client.receive, 100)
    assert client.received == 0


async def test_no_more_is_read_than_may_be_kept() -> None:
    client = Client([b"x" * 60] * 10)
    with pytest.raises(PayloadTooLarge, match="100 bytes"):
        await read(dict([JSON]), client.receive, 100)
    assert client.received == 2


async def test_the_bound_is_exact() -> None:
    assert len(await read(dict([JSON, (b"content-length", b"100")]), Client([b"x" * 100]).receive, 100)) == 100


@pytest.mark.parametrize("pieces", [[], [b'{"a"'], [b"", b""]])
async def test_a_client_that_leaves_is_no_error(pieces: list[bytes]) -> None:
    with pytest.raises(ClientLeft):
        await read(dict([JSON]), Client(pieces, whole=False).receive, 100)


async def test_an_empty_body_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no body"):
        await read(dict([JSON]), Client([b""]).receive, 100)


async def test_a_bounded_receive_stops_what_has_no_end() -> None:
    client = Client([b"x" * 60] * 10)
    receive = bounded(client.receive, 100)
    assert (await receive())["body"] == b"x" * 60
    with pytest.raises(HTTPException) as stopped:
        await receive()
    assert stopped.value.status_code == 413
