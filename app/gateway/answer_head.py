"""The head of an answer as the client gets it: upstream's, less what stays behind, with what a stream must not lack."""

from app.domain.headers import Headers
from app.gateway.services import Services

Values = dict[bytes, bytes]
"""Of headers, by name in lower case; of repeated ones the last."""

_STREAM_DEFAULTS = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_EVENT_STREAM = b"text/event-stream"
_MAX_ID_LENGTH = 128


def crossing(headers: Headers, services: Services, request_id: str) -> tuple[Headers, Values]:
    """What crosses, and an `x-request-id` where upstream sent none. What holds the upstream key stays behind."""
    guard = services.key_guard
    selected = services.to_client.select(headers)
    values = dict(selected)
    if guard.found_in(b"\n".join([value for _, value in selected])):
        selected = [header for header in selected if not guard.found_in(header[1])]
        values = dict(selected)
    if b"x-request-id" not in values:
        selected.append((b"x-request-id", request_id.encode("ascii")))
    return selected, values


def add_stream_defaults(headers: Headers, values: Values, *, asked_for: bool) -> None:
    """No buffering or caching on the way for an event stream: it says it is one, or was asked for and says nothing."""
    content_type = values.get(b"content-type")
    if asked_for if content_type is None else content_type.lower().startswith(_EVENT_STREAM):
        headers += [default for default in _STREAM_DEFAULTS if default[0] not in values]


def generation_id_in(values: Values) -> str | None:
    """OpenRouter's handle to its own books."""
    found = values.get(b"x-generation-id")
    return None if found is None else found.decode("latin-1")[:_MAX_ID_LENGTH]
