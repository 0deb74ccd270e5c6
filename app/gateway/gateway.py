"""The gateway as a door sees it: who are you (admit), your exchange (open), your call (send)."""

from collections.abc import Callable
from dataclasses import dataclass

from app.domain.errors import ApiError, Draining, Overloaded
from app.domain.headers import HeaderRule
from app.domain.records import Record
from app.domain.request_ids import RequestIds
from app.gateway.body import read_body
from app.gateway.clients import KeyDirectory
from app.gateway.ports import Downstream, Headers, UpstreamRequest
from app.gateway.relay import Exchange, Services


@dataclass(slots=True, frozen=True)
class Ticket:
    """Leave to proceed: the caller's client and the key it came with."""

    client: str
    key_id: str


class Gateway:
    """One per process. All methods are called on the event loop and return at once."""

    def __init__(
        self, services: Services, directory: KeyDirectory, ids: RequestIds, to_upstream: HeaderRule, max_streams: int
    ) -> None:
        self._services = services
        self._directory = directory
        self._ids = ids
        self._to_upstream = to_upstream
        self._max_streams = max_streams
        self.in_flight = 0
        self.draining = False

    def new_id(self) -> str:
        """An id for an answer that is no exchange."""
        return self._ids.next(self._services.clock.wall_us())

    def admit(self, authorization: bytes | None) -> Ticket:
        """Judge the caller by the Authorization header alone. Raises AuthenticationFailed."""
        try:
            key = self._directory.authenticate(authorization, self._services.clock.wall_us())
        except ApiError as error:
            self._services.observer.refused(error.error_type)
            raise
        return Ticket(key.client, key.key_id)

    def open(self, ticket: Ticket, method: str, path: str, make_downstream: Callable[[str], Downstream]) -> Exchange:
        """Begin an exchange; from here on it is in the ledger, however it ends. The door then sends or leaves."""
        services = self._services
        now = services.clock.wall_us()
        record = Record(self._ids.next(now), now, ticket.client, ticket.key_id, services.upstream.name, path, method)
        self._count(1)
        return Exchange(
            record,
            make_downstream(record.request_id),
            services,
            on_over=lambda: self._count(-1),
            started=services.clock.monotonic(),
        )

    def room(self) -> ApiError | None:
        """Why no call can be taken now, if so."""
        if self.draining:
            return Draining("This server is stopping. Try again in a moment.")
        if self.in_flight > self._max_streams:
            return Overloaded("This server carries as many calls as it may. Try again in a moment.")
        return None

    def send(self, exchange: Exchange, path: str, headers: Headers, body: bytes) -> None:
        """Judge the body and send the call upstream as it is, to `path` below the upstream's base URL."""
        record = exchange.record
        try:
            facts = read_body(body)
        except ApiError as error:
            record.bytes_in = len(body)
            exchange.reject(error)
            return
        record.model_requested = facts.model
        record.stream = facts.stream
        exchange.begin(UpstreamRequest(record.method, path, self._to_upstream.select(headers), body))

    def _count(self, delta: int) -> None:
        self.in_flight += delta
        self._services.observer.streams_changed(delta)
