"""The catalogue of faults, and the syntax that names them.

    SPEC   = FAULT *("," FAULT)
    FAULT  = NAME ["@" EVENT] ["=" VALUE] [":" FIRST_CALLS]

`truncate@7` cuts the connection after the seventh event, `status=429:2,retry-after=1` refuses the first two calls.
`none` as the whole spec of one call switches the server's own faults off for it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class BadFault(ValueError):
    """A fault spec that does not parse; the message is for the person who typed it."""


class Takes(StrEnum):
    """What stands behind the `=` of a fault."""

    NOTHING = "nothing"
    SECONDS = "seconds"
    BYTES = "bytes"
    STATUS = "status"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One entry of the catalogue. `event`: whether `@EVENT` is expected; `default`: the value when none is given."""

    name: str
    summary: str
    example: str
    event: bool = False
    takes: Takes = Takes.NOTHING
    default: float | None = None


CATALOGUE: tuple[FaultKind, ...] = (
    # Instead of an answer
    FaultKind("status", "answer with an error status and the dialect's error body", "status=429", takes=Takes.STATUS),
    FaultKind("retry-after", "adds retry-after to that", "status=429,retry-after=2", takes=Takes.NUMBER, default=2),
    FaultKind("500-html", "a 500 with an HTML page, as from a load balancer", "500-html"),
    FaultKind("redirect", "a 307 to /_mock/caught, which counts who follows", "redirect"),
    FaultKind("garbage", "bytes that are not HTTP, then the end of the connection", "garbage"),
    # What the answer says
    FaultKind("overloaded-200", "200, an error event, response.failed, no output", "overloaded-200"),
    FaultKind("failed", "response.failed half way, without usage", "failed"),
    FaultKind("failed-with-usage", "response.failed half way, with usage that is billed", "failed-with-usage"),
    FaultKind("incomplete", "response.incomplete half way, as if max_output_tokens were reached", "incomplete"),
    FaultKind("error-then-failed", "half way a nested error event, then response.failed", "error-then-failed"),
    FaultKind("flat-error", "half way a flat error event, then the end of the stream", "flat-error"),
    FaultKind("chat-error", "half way an error in the shape of a chat completion chunk, without a type", "chat-error"),
    FaultKind("response-error", "half way OpenRouter's response.error, then the end of the stream", "response-error"),
    FaultKind("double-terminal", "the terminal event twice", "double-terminal"),
    FaultKind("no-usage", "the terminal event has no usage key", "no-usage"),
    FaultKind("usage-null", "the terminal event has usage: null", "usage-null"),
    FaultKind("usage-list", "the terminal event has usage: []", "usage-list"),
    FaultKind("big-terminal", "a terminal event of this size", "big-terminal=20MB", takes=Takes.BYTES, default=20e6),
    FaultKind("unknown-events", "event types that no schema has, between the others", "unknown-events"),
    FaultKind("echo-key", "the answer's text holds the key that upstream was called with", "echo-key"),
    # How events are written
    FaultKind("crlf", "lines end in CR LF", "crlf"),
    FaultKind("cr-only", "lines end in CR", "cr-only"),
    FaultKind("bom", "a UTF-8 byte order mark comes first", "bom"),
    FaultKind("no-space", "no space after the colon of a field", "no-space"),
    FaultKind("no-final-blank", "no blank line after the last event, no [DONE]", "no-final-blank"),
    FaultKind("multiline-data", "the JSON is indented: many data lines to an event", "multiline-data"),
    FaultKind("comments", "a comment before each event", "comments"),
    FaultKind("ids", "retry: alone in a block, then id: lines", "ids"),
    FaultKind("split", "written in pieces of this many bytes", "split=1", takes=Takes.BYTES, default=1),
    FaultKind("gzip", "the body is compressed although nobody asked", "gzip"),
    # When and whether it arrives
    FaultKind("slow-first-byte", "silence before the head", "slow-first-byte=90s", takes=Takes.SECONDS, default=90),
    FaultKind("stall", "silence after an event, for ever or this long", "stall@5=30s", event=True, takes=Takes.SECONDS),
    FaultKind("truncate", "the connection is cut after an event", "truncate@7", event=True),
    FaultKind("truncate-clean", "a clean end after an event, without a terminal one", "truncate-clean@7", event=True),
    FaultKind("cut-inside-terminal", "the connection is cut within the terminal event", "cut-inside-terminal"),
    FaultKind("close", "the connection is closed after an event; @0: before any byte", "close@0", event=True),
    FaultKind("reset", "the connection is reset after an event; @0: before any byte", "reset@0", event=True),
    # What the HTTP head says
    FaultKind("headerless", "a stream without Content-Type", "headerless"),
    FaultKind("informational", "a 103 before the 200", "informational"),
    FaultKind("huge-headers", "this much of headers", "huge-headers=256KB", takes=Takes.BYTES, default=256e3),
    FaultKind("short-length", "Content-Length says half of what is sent", "short-length"),
    FaultKind("long-length", "Content-Length says more than is sent", "long-length"),
    FaultKind("duplicate-length", "two Content-Length headers that differ", "duplicate-length"),
    FaultKind("surplus", "after the body a second, unasked response", "surplus"),
)

NO_FAULTS = "none"

_FAULT = re.compile(r"([a-z0-9-]+)(?:@(\d{1,9}))?(?:=([^:@=]+))?(?::(\d{1,9}))?")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_BYTES = re.compile(r"(\d+)(B|KB|MB)?", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "b": 1, "kb": 1_000, "mb": 1_000_000}
_WHOLE = {Takes.STATUS: r"[45]\d\d", Takes.NUMBER: r"\d{1,9}"}
_MOST_BYTES = 200_000_000


@dataclass(frozen=True, slots=True)
class MockFault:
    """One fault of a spec: at which event, with which value, for how many calls (None: all)."""

    name: str
    event: int = 0
    value: float | None = None
    first_calls: int | None = None


class FaultSet:
    """The faults of one call, by name."""

    def __init__(self, faults: Iterable[MockFault] = ()) -> None:
        self._faults: Mapping[str, MockFault] = {fault.name: fault for fault in faults}

    def __contains__(self, name: object) -> bool:
        return name in self._faults

    def __iter__(self) -> Iterator[str]:
        return iter(self._faults)

    def get(self, name: str) -> MockFault | None:
        """The fault of that name, if the call has it."""
        return self._faults.get(name)

    def first(self, *names: str) -> str | None:
        """The first of `names` that the call has."""
        return next((name for name in names if name in self._faults), None)

    def value(self, name: str) -> float:
        """The value of a fault that has one; 0 when the call does not have the fault."""
        fault = self._faults.get(name)
        return (fault.value or 0.0) if fault else 0.0


class FaultCounter:
    """Counts the calls of each fault, so that `:N` can end it."""

    def __init__(self) -> None:
        self._calls: Counter[MockFault] = Counter()

    def due(self, faults: Iterable[MockFault]) -> FaultSet:
        """The faults that this call gets; counts the call."""
        due = []
        for fault in faults:
            if fault.first_calls is not None:
                self._calls[fault] += 1
                if self._calls[fault] > fault.first_calls:
                    continue
            due.append(fault)
        return FaultSet(due)

    def reset(self) -> None:
        """Forget all calls."""
        self._calls.clear()


def parse_faults(spec: str) -> tuple[MockFault, ...]:
    """The faults of a spec, in order; nothing for an empty one. Raises BadFault, naming what is wrong."""
    return tuple(_parse_fault(word.strip()) for word in spec.split(",") if word.strip())


def _parse_fault(word: str) -> MockFault:
    match = _FAULT.fullmatch(word)
    kind = next((kind for kind in CATALOGUE if match and kind.name == match[1]), None)
    if match is None or kind is None:
        raise BadFault(f"unknown fault {word!r}; mock-upstream --list-faults shows them all")
    event, value, first_calls = match[2], match[3], match[4]
    if kind.event != (event is not None):
        raise BadFault(f"fault {word!r} {'needs' if kind.event else 'takes no'} @EVENT, as in {kind.example}")
    number = kind.default if value is None else _parse_value(kind, value)
    if number is None and kind.takes is Takes.STATUS:
        raise BadFault(f"fault {word!r} needs a value, as in {kind.example}")
    return MockFault(kind.name, int(event or 0), number, int(first_calls) if first_calls else None)


def _parse_value(kind: FaultKind, text: str) -> float:
    number: float | None = None
    if kind.takes is Takes.SECONDS and (match := _SECONDS.fullmatch(text)):
        number = float(match[1]) * _UNITS[match[2] or "s"]
    elif kind.takes is Takes.BYTES and (match := _BYTES.fullmatch(text)):
        size = int(match[1]) * _UNITS[(match[2] or "b").lower()]
        number = size if 1 <= size <= _MOST_BYTES else None
    elif kind.takes in _WHOLE and re.fullmatch(_WHOLE[kind.takes], text):
        number = int(text)
    if number is None:
        raise BadFault(f"fault {kind.name!r} does not take {text!r}; write it as in {kind.example}")
    return number
