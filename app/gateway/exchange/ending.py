"""Why an exchange ends before upstream has ended it, and what that means for the record and the client."""

from dataclasses import dataclass
from enum import Enum

from app.domain.errors import ApiError, AuthenticationFailed, Draining, UpstreamErrorReplaced
from app.domain.records import Outcome


@dataclass(slots=True, frozen=True)
class _Rule:
    """`message` is what the record says and, with a `refusal`, what a client gets that has no head yet.

    Without a refusal nobody is there to be told.
    """

    name: str  # rules that are alike would else be one member of the enum
    outcome: Outcome
    error_type: str | None = None
    refusal: type[ApiError] | None = None
    message: str = ""


class Ending(Enum):
    """The causes. Whichever it is, upstream's connection is closed and the call is settled once."""

    CLIENT_LEFT = _Rule("client left", Outcome.CLIENT_CLOSED)
    DOOR_FAILED = _Rule("door failed", Outcome.INTERRUPTED, message="Weighbridge could not go on with the answer.")
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
        message="The stream was broken off: its output had used up what the budget had left (hard stop).",
    )
    UPSTREAM_KEY_SEEN = _Rule(
        "upstream key seen",
        Outcome.TRUNCATED,
        UpstreamErrorReplaced.error_type,
        message="The upstream key was in upstream's answer.",
    )

    @property
    def outcome(self) -> Outcome:
        """Of the record, unless a terminal event came before."""
        return self.value.outcome

    @property
    def error_type(self) -> str | None:
        """Of the record."""
        return self.value.error_type

    @property
    def detail(self) -> str | None:
        """Of the record: why, in a sentence."""
        return self.value.message or None

    @property
    def is_silent(self) -> bool:
        """Is there nobody any more who could be told?"""
        return self in _SILENT

    @property
    def spares_the_settled(self) -> bool:
        """Does an answer whose terminal event has come still go out to its end?"""
        return self in _SPARING

    def refusal(self) -> ApiError | None:
        """What a client is answered that has no head yet."""
        rule = self.value
        return None if rule.refusal is None else rule.refusal(rule.message)


_SILENT = frozenset((Ending.CLIENT_LEFT, Ending.DOOR_FAILED))
_SPARING = frozenset((Ending.KEY_REVOKED, Ending.CLIENT_DISABLED, Ending.CEILING_REACHED))
