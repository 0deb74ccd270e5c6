"""A finding: one line of what doctor says."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Green, amber or red."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(slots=True, frozen=True)
class Finding:
    """What one check found. `next` says what to do, where there is something to do."""

    check: str
    state: State
    detail: str
    next: str | None = None

    def shown(self) -> dict[str, str | None]:
        """As JSON has it."""
        return {"check": self.check, "state": self.state.value, "detail": self.detail, "next": self.next}


def ok(check: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(check, State.OK, detail)


def warn(check: str, detail: str, todo: str | None = None) -> Finding:
    """It works, with something that one should know of."""
    return Finding(check, State.WARN, detail, todo)


def fail(check: str, detail: str, todo: str) -> Finding:
    """It does not work."""
    return Finding(check, State.FAIL, detail, todo)
