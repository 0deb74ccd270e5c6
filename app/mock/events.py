"""Events of a stream before a dialect has shaped them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TERMINAL_TYPES = frozenset({"response.completed", "response.incomplete", "response.failed"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `tokens` is how many output tokens are made between the event before and this one."""

    type: str
    fields: dict[str, Any]
    tokens: int = 0
    sequence: int = 0

    @property
    def terminal(self) -> bool:
        """Whether a client has its answer with this event."""
        return self.type in TERMINAL_TYPES

    def payload(self) -> dict[str, Any]:
        """The JSON of the event; an event without a type is sent as its fields alone."""
        return {"type": self.type, "sequence_number": self.sequence, **self.fields} if self.type else self.fields


def numbered(events: Iterable[Event]) -> list[Event]:
    """The events with their sequence numbers, from 0."""
    return [Event(event.type, event.fields, event.tokens, number) for number, event in enumerate(events)]
