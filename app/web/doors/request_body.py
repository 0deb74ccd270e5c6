"""Reads a request body: checks its content type first, its size while reading, and decodes it afterwards."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from typing import cast

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from app.domain.errors import ApiError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from app.gateway.admission.body_memory import SMALL_BYTES, BodyHold, BodyMemory
from app.gateway.admission.slices import run_in_slices
from app.gateway.exchange.request_coding import Steps, decode
from app.web.errors import BrokenRequest


class ClientLeft(Exception):
    """The client left before its request was complete."""


async def read_request(
    values: Mapping[bytes, bytes], receive: Receive, max_bytes: int, memory: BodyMemory, client: str
) -> tuple[bytes, BodyHold | None]:
    """The decoded body, and its hold on body memory, or None if it is small.

    Raises ApiError (413, 415, 400, 408, 503) or ClientLeft.
    """
    _check_type(values.get(b"content-type"))
    too_large = f"The request body is over {max_bytes} bytes."
    announced = values.get(b"content-length")
    if announced is not None and int(announced) > max_bytes:
        raise PayloadTooLarge(too_large)
    parts: list[bytes] = []
    hold: BodyHold | None = None
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size > max_bytes:
            raise PayloadTooLarge(too_large)
        parts.append(part)
        if size > SMALL_BYTES:
            hold = hold or memory.hold(client)
            await hold.resize(size)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    coding = values.get(b"content-encoding")
    if coding is not None:
        hold = hold or memory.hold(client)
        body = await _decoded(coding, body, max_bytes, hold, memory.turn)
    if not body:
        message_text = "The request has no body."
        raise InvalidRequest(message_text)
    return body, hold


async def _decoded(coding: bytes, body: bytes, max_bytes: int, hold: BodyHold, turn: asyncio.Lock) -> bytes:
    """The decoded body. While decoding, memory is held for both forms.

    If there is no room, the decoded part is dropped, and decoding starts anew once there is.
    """
    wanted = 0

    def grow(made: int) -> bool:
        nonlocal wanted
        wanted = len(body) + made
        return wanted <= hold.size or hold.resize_at_once(wanted)

    while (decoded := await run_in_slices(_while(grow, decode(coding, body, max_bytes)), turn=turn)) is None:
        hold.resize_at_once(len(body))
        await hold.resize(wanted)
    hold.resize_at_once(len(decoded))
    return decoded


def _while(go_on: Callable[[int], bool], steps: Steps) -> Generator[None, None, bytes | None]:
    """Run the steps and return their result, or None as soon as `go_on(bytes made so far)` is False."""
    try:
        while go_on(next(steps)):
            yield
    except StopIteration as end:
        return cast("bytes", end.value)
    return None


def bounded(receive: Receive, max_bytes: int) -> Receive:
    """Wrap `receive` for ordinary routes, which read a body before they check who sends it.

    It raises HTTPException 413 past the bound, and BrokenRequest when the body cannot be read to its end.
    """
    size = 0

    async def receive_so_much() -> Message:
        nonlocal size
        try:
            message = await receive()
        except ApiError as error:
            raise BrokenRequest(error) from None
        size += len(message.get("body", b""))
        if size > max_bytes:
            raise HTTPException(413)
        return message

    return receive_so_much


def _check_type(content_type: bytes | None) -> None:
    kind = (content_type or b"").split(b";", 1)[0].strip().lower()
    if kind != b"application/json":
        message = "The request must have `Content-Type: application/json`."
        raise UnsupportedMediaType(message)
