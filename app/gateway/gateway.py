"""The gateway as a door uses it: admit() checks the key, open() begins an exchange, send() sends the call."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from app.domain.disconnect import DEFAULT_POLICY, DisconnectPolicy
from app.domain.errors import ApiError, AuthenticationFailed, Draining, Overloaded
from app.domain.headers import HeaderRule, Headers
from app.domain.identity.request_ids import RequestIds
from app.domain.money.worst_case import tier_asked, tokens_asked
from app.domain.records import Book, Record, book_of
from app.domain.request.query import holds_credential
from app.gateway.admission.admission import Admission
from app.gateway.admission.body_memory import BodyHold
from app.gateway.admission.call_facts import CallFacts, read_body
from app.gateway.clients.directory import EffectiveTerms
from app.gateway.clients.keys import KeyDirectory
from app.gateway.exchange.ending import Ending
from app.gateway.exchange.exchange import Exchange
from app.gateway.exchange.phase import Phase
from app.gateway.ports import Downstream, UpstreamRequest
from app.gateway.services import Services

_LOOK_SECONDS = 0.05


@dataclass(slots=True, frozen=True)
class Ticket:
    """Leave to proceed: the caller's client and key, and what is agreed with it if its calls are judged."""

    client: str
    key_id: str
    on_disconnect: DisconnectPolicy = DEFAULT_POLICY
    terms: EffectiveTerms | None = None


class Gateway:
    """One per process. All methods are called on the event loop and return at once."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a call passes on its way
        self,
        services: Services,
        directory: KeyDirectory,
        admission: Admission,
        ids: RequestIds,
        to_upstream: HeaderRule,
        max_streams: int,
    ) -> None:
        self._services = services
        self._directory = directory
        self._admission = admission
        self._ids = ids
        self._to_upstream = to_upstream
        self._max_streams = max_streams
        self._demo = book_of(services.upstream.name) is Book.DEMO
        self._open: set[Exchange] = set()
        self.draining = False
        self.overloaded = False  # set by the overload detector

    @property
    def in_flight(self) -> int:
        """Exchanges that are not settled."""
        return len(self._open)

    @property
    def key_problem(self) -> str | None:
        """Why upstream refuses the server's key, in a sentence for operators; None if it does not."""
        return self._services.key_health.problem

    async def close(self, wait_seconds: float) -> None:
        """Refuse new calls, wait so long for open ones whose clients have left, then stop what is left."""
        self.draining = True
        end = self._services.clock.monotonic() + wait_seconds
        while self._open and self._services.clock.monotonic() < end:  # noqa: ASYNC110 - they end one by one
            await asyncio.sleep(_LOOK_SECONDS)
        self.stop()
        for exchange in list(self._open):
            exchange.end_by(Ending.DOOR_FAILED)

    def stop(self) -> None:
        """End all open calls: each is recorded as interrupted, and its client gets an error or is cut off."""
        for exchange in list(self._open):
            exchange.end_by(Ending.SERVER_STOPPED)

    @property
    def key_ids(self) -> set[str]:
        """The ids of the keys of open calls."""
        return {exchange.record.key_id for exchange in self._open}

    def end_keys(self, key_ids: Collection[str]) -> None:
        """End the calls of these keys, which were revoked."""
        for exchange in list(self._open):
            if exchange.record.key_id in key_ids:
                exchange.end_by(Ending.KEY_REVOKED)

    def end_disabled(self) -> None:
        """End the calls of clients that were disabled, unless they are let run."""
        terms = self._directory.clients.terms
        for exchange in list(self._open):
            found = terms.get(exchange.record.client)
            if found is not None and found.cut:
                exchange.end_by(Ending.CLIENT_DISABLED)

    def new_id(self) -> str:
        """An id for an answer that is no exchange."""
        return self._ids.next(self._services.clock.wall_us())

    def refused(self, error: ApiError, address: str | None, request: str) -> None:
        """Note a request that a door refused before it was a call."""
        self._services.observer.request_refused(error, address, request)

    def admit(self, authorization: bytes | None, query: bytes = b"") -> Ticket:
        """Check the caller by the Authorization header alone. Raises AuthenticationFailed.

        A credential in the query string is refused: the query goes upstream, and into the logs of proxies.
        """
        if query and holds_credential(query):
            raise AuthenticationFailed(
                "The query string seems to hold a credential. Send the key as `Authorization: Bearer` only."
            )
        key = self._directory.authenticate(authorization, self._services.clock.wall_us())
        terms = self._directory.clients.terms.get(key.client)
        if terms is None:
            return Ticket(key.client, key.key_id)
        if terms.disabled:
            raise AuthenticationFailed("This client is disabled.")
        return Ticket(key.client, key.key_id, terms.on_disconnect, terms if terms.judged else None)

    def open(self, ticket: Ticket, method: str, path: str, downstream: Downstream) -> Exchange:
        """Begin an exchange, which gets a record however it ends. The door then calls send(), or its leave()."""
        services = self._services
        now = services.clock.wall_us()
        request_id, upstream = self._ids.next(now), services.upstream.name
        record = Record(request_id, now, ticket.client, ticket.key_id, upstream, path, method, demo=self._demo)
        started = services.clock.monotonic()
        exchange = Exchange(record, downstream, services, self._over, started, ticket.on_disconnect)
        self._open.add(exchange)
        services.observer.streams_changed(1)
        return exchange

    def room(self, client: str) -> ApiError | None:
        """Why no call of this client can be taken now; None if it can. The call is open already."""
        if self.draining:
            return Draining("This server is stopping. Try again in a moment.")
        if self.overloaded:
            return Overloaded("This server is too busy for more calls. Try again in a moment.")
        if len(self._open) > self._max_streams and not self._spared(client):
            return Overloaded("This server has as many calls as it may have. Try again in a moment.")
        return None

    def _spared(self, client: str) -> bool:
        """Whether a client may begin a call beyond `max_streams`: a tenth more is for clients with few calls.

        It may while it has fewer calls than are left of that tenth. So a client that took all other places gets none of
        it, and a client without calls always finds a place.
        """
        left = self._max_streams + max(1, self._max_streams // 10) - (len(self._open) - 1)
        return sum(exchange.record.client == client for exchange in self._open) - 1 < left

    def send(  # noqa: PLR0913, PLR0917 - the parts of a request
        self,
        exchange: Exchange,
        path: str,
        headers: Headers,
        body: bytes,
        facts: CallFacts | None = None,
        query: bytes = b"",
        hold: BodyHold | None = None,
    ) -> None:
        """Check the body and send the call upstream, to `path` below the upstream's base URL.

        `facts` are those of a large body, which was read in slices before (app.gateway.admission.call_facts), and
        `hold` is the hold on its memory.
        """
        record = exchange.record
        if exchange.phase is not Phase.WAITING:
            return  # its key was revoked while its request was read, and it is answered
        try:
            facts = facts or read_body(body)
        except ApiError as error:
            record.bytes_in = len(body)
            exchange.reject(error)
            return
        if facts.model is not None:
            record.model_requested = self._services.key_guard.mask(facts.model)
        record.stream = facts.stream
        fields = facts.fields
        record.background = fields.get("background") is True
        if "service_tier" in fields:
            record.service_tier = tier_asked(fields)
        if "max_output_tokens" in fields:
            record.max_output_tokens = tokens_asked(fields["max_output_tokens"])
        request = UpstreamRequest(record.method, path, self._to_upstream.select(headers), body, query, hold)
        terms = self._directory.clients.terms.get(record.client)  # of now: the body may have taken minutes to come
        if terms is not None and terms.judged:
            self._admission.begin(exchange, terms, facts, request)
        else:
            exchange.begin(request)

    def _over(self, exchange: Exchange) -> None:
        self._open.discard(exchange)
        self._services.observer.streams_changed(-1)
