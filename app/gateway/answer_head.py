"""The head of an answer as the client gets it: upstream's, less what stays behind, with what a stream must not lack."""

from app.domain.headers import value_of, with_defaults
from app.gateway.ports import Headers
from app.gateway.services import Services

_STREAM_DEFAULTS = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_EVENT_STREAM = b"text/event-stream"
_MAX_ID_LENGTH = 128


def crossing(headers: Headers, services: Services, request_id: str) -> Headers:
    """What crosses, and an `x-request-id` where upstream sent none. What holds the upstream key stays behind."""
    guard = services.key_guard
    selected = [header for header in services.to_client.select(headers) if not guard.found_in(header[1])]
    return with_defaults(selected, ((b"x-request-id", request_id.encode("ascii")),))


def for_stream(headers: Headers, *, asked_for: bool) -> Headers:
    """No buffering or caching on the way for an event stream: it says it is one, or was asked for and says nothing."""
    content_type = value_of(headers, b"content-type")
    if asked_for if content_type is None else content_type.lower().startswith(_EVENT_STREAM):
        return with_defaults(headers, _STREAM_DEFAULTS)
    return headers


def generation_id_in(headers: Headers) -> str | None:
    """OpenRouter's handle to its own books."""
    found = value_of(headers, b"x-generation-id")
    return None if found is None else found.decode("latin-1")[:_MAX_ID_LENGTH]
