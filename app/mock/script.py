"""The script of an answer: its events from the first to the last, with or without a fault.

    created, (queued,) in_progress, output ... --+-- completed | incomplete          planned
                                                 +-- half way: failed | error ...    by fault

app.mock.delivery sends the events.
"""

from dataclasses import dataclass, replace

from app.mock.answer import MockAnswer
from app.mock.call import Json
from app.mock.events import Event, numbered
from app.mock.faults import FaultSet
from app.mock.usage import MockUsage

_USAGE_FAULTS = ("no-usage", "usage-null", "usage-list")
_FAILURES = (
    "overloaded-200",
    "failed",
    "failed-with-usage",
    "error-then-failed",
    "flat-error",
    "chat-error",
    "response-error",
)
_MESSAGE = "Provider disconnected"
_FILLING = "QUJDREVG"  # base64, so that no decoder minds


@dataclass(frozen=True, slots=True)
class ScenarioScript:
    """The events, how they end, and the usage that is billed for all of them (None: nothing)."""

    events: list[Event]
    status: str
    usage: MockUsage | None
    reported: bool

    @property
    def body(self) -> Json:
        """The same as one JSON document: the terminal event's response, or the error."""
        terminal = next((event for event in self.events if event.terminal), None)
        if terminal is not None:
            response: Json = terminal.fields["response"]
            return response
        error = self.events[-1].fields
        return {"error": error.get("error", error)}


def plan(answer: MockAnswer, faults: FaultSet) -> ScenarioScript:
    """The script of an answer with its faults."""
    opening, output = _opening(answer), _output(answer)
    failure = faults.first(*_FAILURES)
    if failure == "overloaded-200":
        script = _fail(answer, opening, failure)
    elif failure is not None:
        script = _fail(answer, opening + output[: max(1, len(output) // 2)], failure)
    else:
        terminal = Event(f"response.{answer.status}", {"response": answer.ending()})
        script = ScenarioScript([*opening, *output, terminal], answer.status, answer.usage, reported=True)
    return _disturbed(script, faults)


def _opening(answer: MockAnswer) -> list[Event]:
    first = "queued" if answer.call.background else "in_progress"
    events = [Event("response.created", {"response": answer.opening(first)})]
    if answer.call.background:
        events.append(Event("response.queued", {"response": answer.opening("queued")}))
    return [*events, Event("response.in_progress", {"response": answer.opening("in_progress")})]


def _output(answer: MockAnswer) -> list[Event]:
    return [event for index, item in enumerate(answer.items) for event in item.events(index)]


def _fail(answer: MockAnswer, events: list[Event], failure: str) -> ScenarioScript:
    code = "server_is_overloaded" if failure == "overloaded-200" else "server_error"
    error = {"code": code, "message": "The model is overloaded." if failure == "overloaded-200" else _MESSAGE}
    usage = None
    if failure == "failed-with-usage":
        usage = answer.usage.after(sum(event.tokens for event in events))
    failed = answer.ended("failed", usage, error)
    if answer.call.dialect.openrouter:
        failed["error_type"] = "provider_overloaded" if failure == "overloaded-200" else "provider_unavailable"
    last = Event("response.failed", {"response": failed})
    nested = Event("error", {"error": {"type": "server_error", **error, "param": None}})
    endings = {
        "overloaded-200": [nested, last],
        "error-then-failed": [nested, last],
        "flat-error": [Event("error", {**error, "param": None})],
        "chat-error": [Event("", _chat_chunk(answer))],
        "response-error": [Event("response.error", {"error": error})],
    }
    return ScenarioScript(events + endings.get(failure, [last]), "failed", usage, reported=usage is not None)


def _chat_chunk(answer: MockAnswer) -> Json:
    error = {"code": 502, "message": _MESSAGE, "metadata": {"error_type": "provider_unavailable"}}
    choices = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
    head = {"id": answer.ids.generation, "object": "chat.completion.chunk", "created": answer.created_at}
    return {**head, "model": answer.call.model_served, "provider": "Mock", "error": error, "choices": choices}


def _disturbed(script: ScenarioScript, faults: FaultSet) -> ScenarioScript:
    events = list(script.events)
    if usage_fault := faults.first(*_USAGE_FAULTS):
        events = [_with_usage(event, usage_fault) if event.terminal else event for event in events]
        script = replace(script, reported=False)
    if "big-terminal" in faults:
        size = int(faults.value("big-terminal"))
        events = [_padded(event, size) if event.terminal else event for event in events]
    if "double-terminal" in faults and events[-1].terminal:
        events.append(events[-1])
    if "unknown-events" in faults:
        events = _with_strangers(events)
    return replace(script, events=numbered(events))


def _with_usage(event: Event, fault: str) -> Event:
    response = dict(event.fields["response"])
    if fault == "no-usage":
        response.pop("usage")
    else:
        response["usage"] = None if fault == "usage-null" else []
    return replace(event, fields={"response": response})


def _padded(event: Event, size: int) -> Event:
    """With an image in the output, which comes before the usage."""
    filling = (_FILLING * (size // len(_FILLING) + 1))[:size]
    image = {"id": "ig_mock", "type": "image_generation_call", "status": "completed", "result": filling}
    response = dict(event.fields["response"])
    response["output"] = [*response["output"], image]
    return replace(event, fields={"response": response})


def _with_strangers(events: list[Event]) -> list[Event]:
    stranger = Event("response.mock_novelty.delta", {"novelty": {"response": {"status": "completed", "usage": None}}})
    return [spoken for event in events[:-1] for spoken in (event, stranger)] + events[-1:]
