"""The exchange of a client whose calls are judged: an Exchange with a reservation that ends when it ends.

Apart from Exchange, so that those without limits pay nothing for them.
"""

from typing import TYPE_CHECKING

from app.domain.errors import Draining
from app.domain.headers import Headers
from app.domain.records import Outcome
from app.gateway.answer_head import Values
from app.gateway.limit_headers import add_limit_headers
from app.gateway.phase import Phase
from app.gateway.relay import Exchange
from app.gateway.roster import HeldTerms

if TYPE_CHECKING:
    from app.gateway.reservation import Reservation

STOPPED_AT_CEILING = "output_ceiling"
"""The `error_type` of a record whose stream was broken off at its ceiling."""


class LimitedExchange(Exchange):
    """`terms` are what it is held to; `reservation` is there once it was granted."""

    terms: HeldTerms
    reservation: "Reservation | None" = None
    asking = False  # the limiter has yet to answer

    def stop(self) -> None:
        """The server stops: who waits for the limiter is told as well. What that grants is given back."""
        if self.asking and self.waiting:
            self.broken(Draining("This server has stopped. Try again in a moment."), 0)
        else:
            super().stop()

    @property
    def waiting(self) -> bool:
        """Has it yet to be sent or answered, and is somebody waiting for that?"""
        return self._phase is Phase.WAITING

    def _pass_on(self, status: int, headers: Headers, values: Values) -> None:
        if self.reservation is not None:
            add_limit_headers(headers, values, self.reservation.grant.readings)
        super()._pass_on(status, headers, values)

    def _weighed(self) -> None:
        if self.reservation is not None:
            self.reservation.settle(self.record, self._tap.reading, self._services.prices)
        super()._weighed()


class StoppedExchange(LimitedExchange):
    """One that is broken off in mid-stream at its ceiling."""

    def data(self, chunk: bytes) -> None:
        """Pass a chunk on, the last one perhaps."""
        super().data(chunk)
        reservation = self.reservation
        if self._phase is Phase.PASSING and reservation is not None and reservation.exceeded_by(self._tap.reading):
            if self._call is not None:
                self._call.cancel()
            self.record.error_type = STOPPED_AT_CEILING
            self._ending = self._downstream.abort
            self._settle(Outcome.INTERRUPTED)
