"""Reading a request: its content type judged before a byte is read, its size while reading, its coding after."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from app.domain.errors import ApiError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from app.gateway.admission.slices import run_in_slices
from app.gateway.exchange.coding import decode
from app.web.errors import BrokenRequest


class ClientLeft(Exception):
    """The client was gone before its request was whole: no error, it is what clients do."""


async def read_request(values: Mapping[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """The body, decoded. Raises an ApiError (413, 415, 400), or ClientLeft."""
    _check_type(values.get(b"content-type"))
    too_large = f"The request body is over {max_bytes} bytes."
    announced = values.get(b"content-length")
    if announced is not None and int(announced) > max_bytes:
        raise PayloadTooLarge(too_large)
    parts: list[bytes] = []
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
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    coding = values.get(b"content-encoding")
    if coding is not None:
        body = await run_in_slices(decode(coding, body, max_bytes))
    if not body:
        message_text = "The request has no body."
        raise InvalidRequest(message_text)
    return body


def bounded(receive: Receive, max_bytes: int) -> Receive:
    """`receive` for ordinary routes, which collect a body before they ask who sends it.

    Raises HTTPException: 413 past the bound, BrokenRequest for what cannot be read to its end.
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
