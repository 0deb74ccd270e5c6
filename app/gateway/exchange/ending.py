"""Why an exchange ends before upstream ends it, and what the record and the client get."""

from dataclasses import dataclass
from enum import Enum

from app.domain.errors import ApiError, AuthenticationFailed, Draining, UpstreamErrorReplaced
from app.domain.records import Outcome


@dataclass(slots=True, frozen=True)
class _Rule:
    """`message` is for the record and, with a `refusal`, for a client that has no head yet.

    Without a refusal, there is no client to answer.
    """

    name: str  # without it, equal rules would be one member of the enum
    outcome: Outcome
    error_type: str | None = None
    refusal: type[ApiError] | None = None
    message: str = ""


class Ending(Enum):
    """The causes. Whichever it is, upstream's connection is closed and the call is settled once."""

    CLIENT_LEFT = _Rule("client left", Outcome.CLIENT_CLOSED)
    DOOR_FAILED = _Rule(
        "door failed", Outcome.INTERRUPTED, message="Weighbridge could not send the rest of the answer."
    )
    SERVER_STOPPED = _Rule(
        "server stopped",
        Outcome.INTERRUPTED,
        Draining.error_type,
        Draining,
        "This server has stopped. Try again in a moment.",
    )
    KEY_REVOKED = _Rule(
        "key revoked", Outcome.INTERRUPTED, "key_revoked", AuthenticationFailed, "This API key is revoked."
    )
    CLIENT_DISABLED = _Rule(
        "client disabled", Outcome.INTERRUPTED, "client_disabled", AuthenticationFailed, "This client is disabled."
    )
    CEILING_REACHED = _Rule(
        "ceiling reached",
        Outcome.INTERRUPTED,
        "output_ceiling",
        message="The hard stop ended the stream: its output reached the ceiling, or used up what the budget had left.",
    )
    UPSTREAM_KEY_SEEN = _Rule(
        "upstream key seen",
        Outcome.TRUNCATED,
        UpstreamErrorReplaced.error_type,
        message="The upstream key was in upstream's answer.",
    )

    @property
    def outcome(self) -> Outcome:
        """The record's outcome, unless a terminal event came before."""
        return self.value.outcome

    @property
    def error_type(self) -> str | None:
        """The record's error type."""
        return self.value.error_type

    @property
    def detail(self) -> str | None:
        """The record's error detail."""
        return self.value.message or None

    @property
    def is_silent(self) -> bool:
        """Whether there is no client any more that could get an answer."""
        return self in _SILENT

    @property
    def spares_the_settled(self) -> bool:
        """Whether an answer whose terminal event has come is still sent to its end."""
        return self in _SPARING

    def refusal(self) -> ApiError | None:
        """The error for a client that has no head yet."""
        rule = self.value
        return None if rule.refusal is None else rule.refusal(rule.message)


_SILENT = frozenset((Ending.CLIENT_LEFT, Ending.DOOR_FAILED))
_SPARING = frozenset((Ending.KEY_REVOKED, Ending.CLIENT_DISABLED, Ending.CEILING_REACHED))
