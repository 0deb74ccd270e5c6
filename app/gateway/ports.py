"""The ports of the gateway: Protocols that other rooms fill. Bytes are pushed through callbacks; only set-up is async.

        door (web)                gateway                     outsides
    ---------------------   ---------------------   ---------------------------
    Downstream  <----------  Exchange  <----------   UpstreamCall's listener
                             Exchange  ---------->   Upstream      (app.upstream)
                             Settlement ---------->  Ledger        (app.store)
                             Settlement ---------->  PriceBook     (app.upstream)
                             UsageReconciler ----->  UsageLookup   (app.upstream)
                             Settlement ---------->  Observer      (app.telemetry)
                             Admission  ---------->  Limiter       (app.gateway.limiter)
                             Admission  ---------->  KeyDirectory  (app.gateway.clients.keys, filled by app.store)

All methods are called on the event loop's thread and must not block or raise, unless they say so.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.domain.answer.extras import NO_EXTRAS, Extras
from app.domain.answer.usage import Usage
from app.domain.errors import ApiError, UpstreamFault
from app.domain.headers import Headers
from app.domain.identity.keys import StoredKey
from app.domain.money.pricing import Price
from app.domain.money.terms import NO_TERMS, ClientTerms, GroupTerms
from app.domain.records import Record
from app.gateway.usage_query import UsageQuery


@dataclass(slots=True, frozen=True)
class UpstreamRequest:
    """One call as it goes upstream. `path` is below the upstream's base URL and starts with a slash.

    `query` is the caller's query string as it came, without the question mark. `hold` is the hold on the memory of a
    large body: keep it as long as the body, and drop it with the body.
    """

    method: str
    path: str
    headers: Headers
    body: bytes
    query: bytes = b""
    hold: object = None


class UpstreamListener(Protocol):
    """Receives one answer: head, then data any number of times, then end or broken, once. Or broken alone."""

    def head(self, status: int, headers: Headers, retry_count: int) -> None:
        """The status and headers have come; `retry_count` is how often the call was sent again (0 or 1)."""

    def data(self, chunk: bytes) -> None:
        """Body bytes that arrived together, without transfer coding, never empty."""

    def end(self) -> None:
        """The answer is whole."""

    def broken(self, fault: UpstreamFault, retry_count: int) -> None:
        """There will be no (further) answer."""


class UpstreamCall(Protocol):
    """A call under way. After cancel() the listener is not called any more."""

    @property
    def sent(self) -> bool:
        """Whether the whole request was written, also after the end. If not, upstream cannot have worked on it."""

    def cancel(self) -> None:
        """Close the upstream connection at once, at any stage. Does nothing after the end."""

    def pause(self) -> None:
        """Stop reading from upstream until resume()."""

    def resume(self) -> None:
        """Read on."""


class Upstream(Protocol):
    """A provider, called with the server's own key."""

    @property
    def name(self) -> str:
        """The name in the ledger."""

    def open(self, request: UpstreamRequest, listener: UpstreamListener) -> UpstreamCall:
        """Send the call. Faults go to the listener, never before this returns."""


class Downstream(Protocol):
    """The client's side of one exchange: start, body*, finish or abort, in this order; or refuse alone."""

    def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""

    def body(self, chunk: bytes) -> None:
        """Send bytes now."""

    def finish(self) -> None:
        """End the answer properly."""

    def refuse(self, error: ApiError) -> None:
        """Answer with an error of ours, instead of all other methods."""

    def abort(self) -> None:
        """Break the answer off so that the client notices: no clean end of body."""


class Ledger(Protocol):
    """Stores records. Each is settled once; a rejected call is settled without being admitted."""

    def admit(self, record: Record) -> None:
        """The call is under way. A row is written only if it is still open 0.25 s later."""

    def note(self, record: Record) -> None:
        """A call under way has got a new field, such as its generation id; update its row if there is one."""

    def settle(self, record: Record, durable: Callable[[], None]) -> None:
        """Write the settled record; `durable` is called on the loop once it is on disk, or cannot be written."""

    def amend(self, record: Record) -> None:
        """Write the usage and cost that became known after the settlement (`usage_source` is `settled`).

        They replace an unknown or estimated usage, once; any other record stays as it is.
        """

    @property
    def keeps(self) -> bool:
        """Whether a record settled now is sure to be stored. If not, budgeted calls are refused."""


class PriceBook(Protocol):
    """The prices of models, by upstream's names for them."""

    def price(self, model: str) -> Price | None:
        """The price of a model; None if it is unknown. Quick after the first call."""

    def context_tokens(self, model: str) -> int | None:
        """The most tokens, input and output together, that a call of the model can have; None if unknown."""


@dataclass(slots=True, frozen=True)
class UpstreamUsage:
    """Upstream's own usage record of one call: the tokens as billed and the cost, in `usage`.

    Without a usage, the call is over and upstream has no usage of it.
    """

    usage: Usage | None
    model: str | None = None
    extras: Extras = NO_EXTRAS


class UsageNotKept(Exception):
    """The upstream keeps no usage records that can be asked."""


class StillRunning(Exception):
    """Upstream knows the call, and it is not over."""


class UsageLookup(Protocol):
    """Looks calls up in upstream's own usage records after their end."""

    async def look_up(self, record: Record) -> UpstreamUsage | None:
        """Upstream's usage record of a call; None if there is none yet.

        Raises:
            StillRunning: the call is not over.
            UsageNotKept: upstream keeps no usage records.
            Exception: upstream could not be asked this time.

        """


@dataclass(slots=True, frozen=True)
class UpstreamSpending:
    """What the server's key has spent, by upstream's count, in nano-dollars. None is unknown.

    `day`, `week` and `month` are the current ones in UTC; a week begins on Monday.
    """

    day: int | None = None
    week: int | None = None
    month: int | None = None
    total: int | None = None
    since: int | None = None  # when upstream's count begins (microseconds UTC), if that may be within a window


class UpstreamAccount(Protocol):
    """The account behind the server's key."""

    async def spending(self) -> UpstreamSpending:
        """What was spent so far. Raises an exception with a message for operators if upstream could not be asked."""


class Observer(Protocol):
    """Telemetry: notes what happens to calls."""

    def refused(self, error_type: str) -> None:
        """A call got an error of ours, of this `error_type`."""

    def request_refused(self, error: ApiError, address: str | None, request: str) -> None:
        """A request was refused before it was a call. `request` is its method and path, `address` its client's."""

    def streams_changed(self, delta: int) -> None:
        """A call began (+1) or ended (-1)."""

    def overhead_measured(self, seconds: float) -> None:
        """The time between a call's arrival and its sending upstream."""

    def meter_failed(self) -> None:
        """The meter could not read an answer. Its bytes passed all the same."""

    def amended(self, record: Record) -> None:
        """A settled record was amended, as in Ledger.amend()."""


@dataclass(slots=True, frozen=True)
class StoredClient:
    """A client as it is stored. Times are microseconds UTC. The calls of a disabled or deleted client are refused.

    A deleted client is not listed. It stays because its records, and its group's budget, need its name.
    """

    name: str
    created_at: int
    disabled_at: int | None
    terms: ClientTerms
    deleted_at: int | None = None

    @property
    def refused(self) -> bool:
        """Whether its calls are refused."""
        return self.disabled_at is not None or self.deleted_at is not None


@dataclass(slots=True, frozen=True)
class StoredGroup:
    """A group of clients as it is stored."""

    name: str
    created_at: int
    terms: GroupTerms


class ClientStore(Protocol):
    """Stores clients, their keys and their groups. Raises LookupError for what does not exist."""

    async def load_keys(self) -> Sequence[StoredKey]:
        """All keys that may still be valid."""

    async def add_key(self, key: StoredKey, terms: ClientTerms = NO_TERMS, *, client_is_new: bool = False) -> None:
        """Store a new key, and its client with these terms if that is new.

        With `client_is_new`, raises ValueError if the client exists, also when another process has just created it.
        """

    async def change_key(self, key_id: str, *, expires_at: int | None, revoked_at: int | None) -> None:
        """Set when a key ends."""

    async def list_keys(self) -> Sequence[StoredKey]:
        """All keys ever made, oldest first."""

    async def list_clients(self) -> Sequence[StoredClient]:
        """All clients, deleted ones too, by name."""

    async def change_client(self, client: StoredClient) -> None:
        """Replace a client's terms, and whether it is disabled or deleted."""

    async def list_groups(self) -> Sequence[StoredGroup]:
        """All groups, by name."""

    async def put_group(self, group: StoredGroup) -> None:
        """Store a new group, or new terms of a group."""


class Reports(Protocol):
    """Reads the ledger."""

    async def totals(self, query: UsageQuery) -> Sequence[Mapping[str, Any]]:
        """Sums per group, one mapping each."""

    def records(self, query: UsageQuery) -> AsyncIterator[Record]:
        """The records, newest last. Sorted by cost, at most MOST_SORTED of them."""

    async def find(self, id_: str, query: UsageQuery) -> Sequence[Record]:
        """The records of one id (ours, upstream's request id, a response's or a generation's), newest last.

        Of all records with the id, those of the newest time are enough.
        """


class UnsettledReports(Protocol):
    """Reads unsettled records from the ledger."""

    async def unsettled(self, since: int, most: int = 200) -> Sequence[Record]:
        """Ended calls, begun since then, whose usage upstream may still tell; oldest first."""
