"""The seams of the gateway, each owned here by its user. Bytes are pushed through callbacks; only set-up is async.

        door (web)                gateway                     outsides
    ---------------------   ---------------------   ---------------------------
    Downstream  <----------  Exchange  <----------   UpstreamCall's listener
                             Exchange  ---------->   Upstream      (app.upstream)
                             Settlement ---------->  Ledger        (app.store)
                             Settlement ---------->  PriceBook     (app.upstream)
             Bookkeeper ---------->  Books         (app.upstream)
                             Settlement ---------->  Observer      (app.telemetry)
                             Admission  ---------->  Limiter       (app.gateway.limiter)
                             Admission  ---------->  KeyDirectory  (app.gateway.clients.keys, filled by app.store)

All methods are called on the event loop's thread and must not block or raise, except where said.
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

    `query` is the caller's query string as it came, without the question mark.
    `hold` is the hold on the memory of a large body: to be kept for as long as the body is, and let go with it.
    """

    method: str
    path: str
    headers: Headers
    body: bytes
    query: bytes = b""
    hold: object = None


class UpstreamListener(Protocol):
    """Hears one answer: head, then data any number of times, then end or broken, once. Or broken alone."""

    def head(self, status: int, headers: Headers, retry_count: int) -> None:
        """The status line and headers are in; `retry_count` is how often the call was repeated (0 or 1)."""

    def data(self, chunk: bytes) -> None:
        """Body bytes, everything that arrived together, free of transfer coding, never empty."""

    def end(self) -> None:
        """The answer is whole."""

    def broken(self, fault: UpstreamFault, retry_count: int) -> None:
        """There will be no (further) answer."""


class UpstreamCall(Protocol):
    """A call under way. After cancel() the listener hears nothing more."""

    @property
    def sent(self) -> bool:
        """Was the whole request written? If not, upstream cannot have worked on it. Stays when the call is over."""

    def cancel(self) -> None:
        """Close the upstream connection at once, at whatever stage. Harmless when the call is over."""

    def pause(self) -> None:
        """Stop reading from upstream until resume()."""

    def resume(self) -> None:
        """Read on."""


class Upstream(Protocol):
    """A provider, reached with the server's own key."""

    @property
    def name(self) -> str:
        """As in the ledger."""

    def open(self, request: UpstreamRequest, listener: UpstreamListener) -> UpstreamCall:
        """Send the call; never raises, faults go to the listener (never before this returns)."""


class Downstream(Protocol):
    """The client's side of one exchange, owned by a door: start, body*, finish | abort, in order; or refuse alone."""

    def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""

    def body(self, chunk: bytes) -> None:
        """Send bytes now."""

    def finish(self) -> None:
        """End the answer properly."""

    def refuse(self, error: ApiError) -> None:
        """Instead of all the others: answer with an error of ours."""

    def abort(self) -> None:
        """Break the answer off so that the client notices: no clean end of body."""


class Ledger(Protocol):
    """Keeps records. Each is settled once; those refused before upstream was asked are never admitted."""

    def admit(self, record: Record) -> None:
        """The call is under way. A row is written only if it is still open 0.25 s later."""

    def note(self, record: Record) -> None:
        """More is known of a call under way, as its generation id: once a row of it is written, the row follows."""

    def settle(self, record: Record, durable: Callable[[], None]) -> None:
        """Write the settled record; `durable` is called on the loop once it is on disk (or can not be got there)."""

    def amend(self, record: Record) -> None:
        """Upstream's books have told what a settled call weighed: `usage_source` is `settled`, unknown fields are None.

        Tokens and cost go into a row whose usage is unknown or estimated, once; any other stays as it is.
        """

    @property
    def keeps(self) -> bool:
        """Whether a record settled now would be kept, come what may. If not, refuse what must not go unweighed."""


class PriceBook(Protocol):
    """What models cost."""

    def price(self, model: str) -> Price | None:
        """The price of a model by upstream's name for it, or None when not known. Quick after the first call."""

    def context_tokens(self, model: str) -> int | None:
        """How many tokens, of input and output, a call of the model can have at the most; None when not known."""


@dataclass(slots=True, frozen=True)
class UpstreamUsage:
    """What upstream's own books say of one call: the tokens as billed, and what was charged (in `usage`).

    Without a usage: the call is over, and they will never say more of it.
    """

    usage: Usage | None
    model: str | None = None
    extras: Extras = NO_EXTRAS


class UsageNotKept(Exception):
    """There are no books that could be asked: this upstream keeps none."""


class StillRunning(Exception):
    """The books know the call, and it is not over."""


class UsageLookup(Protocol):
    """Upstream's own account of each call, kept after the call is over."""

    async def look_up(self, record: Record) -> UpstreamUsage | None:
        """The entry of a call that has books; None when there is none (yet).

        Raises StillRunning, UsageNotKept, or any other exception when the books could not be asked this time.
        """


@dataclass(slots=True, frozen=True)
class UpstreamSpending:
    """What the server's key has spent, as upstream counts it, in nano-dollars. None is unknown.

    `day`, `week` and `month` are those under way in UTC; a week begins on Monday.
    """

    day: int | None = None
    week: int | None = None
    month: int | None = None
    total: int | None = None
    since: int | None = None  # when its books begin, in microseconds UTC, where they may begin later than a window


class UpstreamAccount(Protocol):
    """The account behind the server's key."""

    async def spending(self) -> UpstreamSpending:
        """What was spent so far. Raises when upstream could not be asked, in words for an operator."""


class Observer(Protocol):
    """Telemetry's ear."""

    def refused(self, error_type: str) -> None:
        """A call was answered with an error of ours, of this `error_type`."""

    def request_refused(self, error: ApiError, address: str | None, request: str) -> None:
        """A request was refused before it was a call. `request` is its method and path, `address` its client's."""

    def streams_changed(self, delta: int) -> None:
        """A call began (+1) or ended (-1) being relayed."""

    def overhead_measured(self, seconds: float) -> None:
        """Our own time between a call's arrival and its leaving for upstream."""

    def meter_failed(self) -> None:
        """The meter could not read an answer; the bytes went through all the same."""

    def amended(self, record: Record) -> None:
        """Upstream's books have told what a settled call weighed; the ledger was told, too."""


@dataclass(slots=True, frozen=True)
class StoredClient:
    """A client as storage knows it. Times in microseconds UTC; a client with `disabled_at` is refused.

    One with `deleted_at`, too: it is shown nowhere, and stays because its records, and its group's budget, name it.
    """

    name: str
    created_at: int
    disabled_at: int | None
    terms: ClientTerms
    deleted_at: int | None = None

    @property
    def refused(self) -> bool:
        """Whether its calls are."""
        return self.disabled_at is not None or self.deleted_at is not None


@dataclass(slots=True, frozen=True)
class StoredGroup:
    """A group of clients as storage knows it."""

    name: str
    created_at: int
    terms: GroupTerms


class ClientStore(Protocol):
    """Clients, their keys and their groups, durably. Raises LookupError for what is not there."""

    async def load_keys(self) -> Sequence[StoredKey]:
        """All keys that could still be good."""

    async def add_key(self, key: StoredKey, terms: ClientTerms = NO_TERMS, *, client_is_new: bool = False) -> None:
        """Store a new key, and its client, on these terms, if that is new.

        With `client_is_new` it must be: raises ValueError, also when another process makes it at the same moment.
        """

    async def change_key(self, key_id: str, *, expires_at: int | None, revoked_at: int | None) -> None:
        """Set when a key ends."""

    async def list_keys(self) -> Sequence[StoredKey]:
        """All keys ever made, oldest first."""

    async def list_clients(self) -> Sequence[StoredClient]:
        """All clients, deleted ones too, by name."""

    async def change_client(self, client: StoredClient) -> None:
        """Put a client's terms, and whether it is disabled or deleted, in place of what was."""

    async def list_groups(self) -> Sequence[StoredGroup]:
        """All groups, by name."""

    async def put_group(self, group: StoredGroup) -> None:
        """Store a group, or other terms of one that is there."""


class Reports(Protocol):
    """Reads the ledger."""

    async def totals(self, query: UsageQuery) -> Sequence[Mapping[str, Any]]:
        """Sums per group, one mapping each."""

    def records(self, query: UsageQuery) -> AsyncIterator[Record]:
        """The records themselves, newest last. Sorted by cost at most MOST_SORTED of them."""

    async def find(self, id_: str, query: UsageQuery) -> Sequence[Record]:
        """The records of one id: ours, upstream's request id, a response's or a generation's; newest last.

        Of all records with it, those of the newest time are enough.
        """


class UnsettledReports(Protocol):
    """Reads from the ledger what is not weighed yet."""

    async def unsettled(self, since: int, most: int = 200) -> Sequence[Record]:
        """Calls begun since then, and over, whose usage upstream's books may tell; oldest first."""
