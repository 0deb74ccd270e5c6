"""The head of an answer as the client gets it: upstream's headers that may cross, with our ids and stream defaults."""

from app.domain.headers import Headers
from app.domain.identity.kept_ids import LONGEST_ID, kept_id
from app.domain.records import Record
from app.gateway.services import Services

Values = dict[bytes, bytes]
"""Values of headers by name in lower case; the last of repeated ones."""

_STREAM_DEFAULTS = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_EVENT_STREAM = b"text/event-stream"


def crossing(headers: Headers, services: Services, record: Record) -> tuple[Headers, Values]:
    """The headers that cross, and their values; upstream's ids go into the record. None may hold the upstream key.

    `x-weighbridge-request-id` is always ours, `x-request-id` upstream's, or ours if upstream sent none.
    """
    guard = services.key_guard
    selected = services.to_client.select(headers)
    values = dict(selected)
    if guard.found_in_headers(b"\n".join([value for _, value in selected])):
        selected = [header for header in selected if not guard.found_in(header[1])]
        values = dict(selected)
    our_id = record.request_id.encode("ascii")
    selected.append((b"x-weighbridge-request-id", our_id))
    if b"x-request-id" in values:
        theirs = values[b"x-request-id"].decode("latin-1")
        record.upstream_request_id = theirs if 0 < len(theirs) <= LONGEST_ID else kept_id(theirs)
    else:
        selected.append((b"x-request-id", our_id))
    if b"x-generation-id" in values:  # the id of the call in OpenRouter's usage records
        generation = values[b"x-generation-id"].decode("latin-1")
        record.generation_id = generation if 0 < len(generation) <= LONGEST_ID else kept_id(generation)
        services.ledger.note(record)
    return selected, values


def add_stream_defaults(headers: Headers, values: Values, *, asked_for: bool) -> None:
    """Switch buffering and caching off for an event stream, by its content type or, without one, as asked for."""
    content_type = values.get(b"content-type")
    if asked_for if content_type is None else content_type.lower().startswith(_EVENT_STREAM):
        headers += [default for default in _STREAM_DEFAULTS if default[0] not in values]
