"""The HTTP response of a stream."""

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse
from starlette.responses import Response

from app.mock.headers import Headers

_OUTLIVING_SECONDS = 3600.0
"""sse-starlette ends all streams of a process at a signal to any server in it; ours end with the mock's own server.
The gateway that runs us for a demo lets its calls come to their end first."""


def event_stream(chunks: AsyncIterator[bytes], headers: Headers) -> Response:
    """A stream of frames that are written already, without pings, and with no headers but these."""
    response = EventSourceResponse(chunks, ping=0, shutdown_grace_period=_OUTLIVING_SECONDS)
    response.raw_headers = headers
    return response
