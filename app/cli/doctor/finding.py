"""A finding: one line of doctor's output."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(slots=True, frozen=True)
class Finding:
    """The result of one check. `next` says what to do, if anything."""

    check: str
    state: State
    detail: str
    next: str | None = None

    def shown(self) -> dict[str, str | None]:
        """The finding as JSON."""
        return {"check": self.check, "state": self.state.value, "detail": self.detail, "next": self.next}


def ok(check: str, detail: str) -> Finding:
    """A finding that needs no action."""
    return Finding(check, State.OK, detail)


def warn(check: str, detail: str, todo: str | None = None) -> Finding:
    """A finding that the operator should know of, though calls work."""
    return Finding(check, State.WARN, detail, todo)


def fail(check: str, detail: str, todo: str) -> Finding:
    """A finding that calls fail on."""
    return Finding(check, State.FAIL, detail, todo)
