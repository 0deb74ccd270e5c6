"""What the meter has read of one answer, and the rules by which events and bodies are read.

Upstreams differ in how an answer ends: `response.completed`, `.incomplete` or `.failed`, in an old dialect
`response.done`, and `error` events in three shapes, which `response.failed` may follow. So an event ends the answer by
its `response.status` or its type. An error alone only marks the answer as failed.
"""

from dataclasses import dataclass, field

from app.domain.answer.error_code import Json, error_code, error_message, object_of
from app.domain.answer.extras import NO_EXTRAS, Extras, read_extras
from app.domain.answer.usage import Usage, read_usage
from app.domain.identity.kept_ids import LONGEST_ID, kept_id

TERMINAL_STATUSES = frozenset({"completed", "incomplete", "failed", "cancelled"})
STATUS_OF_TYPE = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.done": "completed",
}
STILL_RUNNING = ("queued", "in_progress")
ERROR_TYPES = frozenset({"error", "response.error"})

NAME_LIMIT = 256
"""A longer name of a model is ignored: it would go into the ledger."""


@dataclass(slots=True)
class AnswerReading:
    """What has been read so far; every field may stay None.

    `status` (completed, incomplete, failed or cancelled) and `usage` come from the terminal event alone: earlier events
    carry no final usage. `model` is the one that served. `error_code` has at most 64 characters out of
    [A-Za-z0-9_.:-], `error_message` at most 2,048. `failed`: the answer held an error. `extras` price a call whose cost
    upstream does not report. `no_answer`: the body was no answer of the API, so nothing was made. `output_bytes` is
    about how much text the deltas of a stream held; it depends on how the stream was cut into chunks. `still_running`:
    upstream works on in the background, asked or not.
    """

    status: str | None = None
    usage: Usage | None = None
    response_id: str | None = None
    model: str | None = None
    error_code: str | None = None
    failed: bool = False
    extras: Extras = field(default=NO_EXTRAS, compare=False)
    no_answer: bool = field(default=False, compare=False)
    output_bytes: int = field(default=0, compare=False)
    error_message: str | None = field(default=None, compare=False)
    still_running: bool = field(default=False, compare=False)

    @property
    def named(self) -> bool:
        """Whether id and model are known, so that only the terminal event or an error can add anything."""
        return self.response_id is not None and self.model is not None

    def note_event(self, event: object) -> bool:
        """Read one decoded event; True when it is terminal. Must not be called again after that."""
        if not isinstance(event, dict):
            return False
        kind = _text(event.get("type"))
        response = object_of(event.get("response"))
        status = _terminal_status(response) or STATUS_OF_TYPE.get(kind or "")
        if status is not None:
            self._note_end(status, read_usage(response.get("usage")), response, event)
            return True
        if kind in ERROR_TYPES or (kind is None and event.get("error") is not None):
            self.failed = True
            self._note_error(response, event)
        self.response_id = self.response_id or _id(response.get("id"))
        self.model = self.model or _name(response.get("model"))
        return False

    def note_body(self, body: object) -> None:
        """Read the document of an unstreamed answer: a response, a compaction or an error."""
        if not isinstance(body, dict):
            return
        usage = read_usage(body.get("usage"))
        status = _terminal_status(body)
        if usage is None and body.get("error") is not None:
            self.failed = True
            status = status or "failed"
        elif usage is not None and body.get("status") is None:
            status = "completed"
        self.still_running = usage is None and body.get("status") in STILL_RUNNING
        self._note_end(status, usage, body, {})

    def _note_end(self, status: str | None, usage: Usage | None, response: Json, event: Json) -> None:
        self.status = status
        self.usage = usage
        if usage is not None and usage.reported_cost_nanousd is None:
            self.extras = read_extras(response)
        self.response_id = _id(response.get("id")) or self.response_id
        self.model = _name(response.get("model")) or self.model
        self.failed = self.failed or status == "failed"
        if self.failed:
            self._note_error(response, event)

    def _note_error(self, response: Json, event: Json) -> None:
        self.error_code = error_code(response, event) or self.error_code
        self.error_message = error_message(response, event) or self.error_message


def _terminal_status(response: Json) -> str | None:
    status = _text(response.get("status"))
    return status if status in TERMINAL_STATUSES else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _id(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value if 0 < len(value) <= LONGEST_ID else kept_id(value)


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= NAME_LIMIT else None
