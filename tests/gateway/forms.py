"""The gateway's ports in memory: small, real, driven by hand. They keep a port's promises and check its user."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from app.domain.errors import ApiError, UpstreamFault
from app.domain.headers import Headers
from app.domain.identity.keys import StoredKey
from app.domain.money.pricing import Price
from app.domain.money.terms import NO_TERMS, ClientTerms
from app.domain.records import Record, UsageSource
from app.gateway.admission.spending import LedgerSpending, Spent
from app.gateway.audit import AuditEntry
from app.gateway.clock import Clock
from app.gateway.ports import StoredClient, StoredGroup, UpstreamListener, UpstreamRequest

NOW = 1_790_000_000_000_000


class HandClock:
    """Both clocks; they move when told to."""

    def __init__(self) -> None:
        self.us = NOW
        self.clock = Clock(lambda: self.us, lambda: self.us / 1_000_000)

    def advance(self, seconds: float) -> None:
        self.us += round(seconds * 1_000_000)


class TwoClocks:
    """The wall clock may be set; the monotonic one only goes on."""

    def __init__(self) -> None:
        self.wall = NOW
        self.monotonic = 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.monotonic)

    def go_on(self, seconds: float) -> None:
        self.wall += round(seconds * 1_000_000)
        self.monotonic += seconds


class HandCall:
    """A call upstream; the test speaks for upstream. After the end, or cancel(), the listener hears nothing."""

    def __init__(self, request: UpstreamRequest, listener: UpstreamListener) -> None:
        self.request = request
        self.listener = listener
        self.over = False
        self.sent = True
        self.cancelled = asyncio.Event()
        self.paused = asyncio.Event()
        self.resumed = asyncio.Event()

    def cancel(self) -> None:
        if not self.over:
            self.over = True
            self.cancelled.set()

    def pause(self) -> None:
        self.paused.set()
        self.resumed.clear()

    def resume(self) -> None:
        self.paused.clear()
        self.resumed.set()

    def head(self, status: int, *headers: tuple[bytes, bytes], retry_count: int = 0) -> None:
        if not self.over:
            self.listener.head(status, list(headers), retry_count)

    def stream_head(self, *headers: tuple[bytes, bytes]) -> None:
        self.head(200, (b"content-type", b"text/event-stream"), *headers)

    def json_head(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        self.head(status, (b"content-type", b"application/json"), *headers)

    def data(self, *chunks: bytes) -> None:
        for chunk in chunks:
            if not self.over:
                self.listener.data(chunk)

    def end(self) -> None:
        if not self.over:
            self.over = True
            self.listener.end()

    def broken(self, fault: UpstreamFault, retry_count: int = 0) -> None:
        if not self.over:
            self.over = True
            self.listener.broken(fault, retry_count)


class HandUpstream:
    """An Upstream whose calls wait for the test."""

    name = "hand"

    def __init__(self) -> None:
        self.calls: list[HandCall] = []
        self._fresh: asyncio.Queue[HandCall] = asyncio.Queue()

    def open(self, request: UpstreamRequest, listener: UpstreamListener) -> HandCall:
        call = HandCall(request, listener)
        self.calls.append(call)
        self._fresh.put_nowait(call)
        return call

    def forget(self) -> None:
        """Know no call any more."""
        self.calls.clear()
        self._fresh = asyncio.Queue()

    async def next_call(self) -> HandCall:
        """The next call that nobody has asked for yet, as soon as it is there."""
        return await asyncio.wait_for(self._fresh.get(), 10)


class RecordingDownstream:
    """A client that keeps everything. It insists on the order start, body*, finish | abort; or refuse alone."""

    def __init__(self, request_id: str = "req_0") -> None:
        self.request_id = request_id
        self.status: int | None = None
        self.headers: Headers = []
        self.chunks: list[bytes] = []
        self.ending: str | None = None
        self.error: ApiError | None = None
        self.on_body: Callable[[], None] | None = None

    @property
    def received(self) -> bytes:
        return b"".join(self.chunks)

    def start(self, status: int, headers: Headers) -> None:
        assert self.status is None
        assert self.ending is None
        self.status, self.headers = status, headers

    def body(self, chunk: bytes) -> None:
        assert self.status is not None
        assert self.ending is None
        self.chunks.append(chunk)
        if self.on_body is not None:
            self.on_body()

    def finish(self) -> None:
        self._end("finish")

    def abort(self) -> None:
        self._end("abort")

    def refuse(self, error: ApiError) -> None:
        assert self.status is None
        assert self.ending is None
        self.ending, self.error = "refuse", error

    def _end(self, how: str) -> None:
        assert self.status is not None
        assert self.ending is None
        self.ending = how


class MemoryLedger:
    """A Ledger that is durable when told: at once (even within settle()), by commit(), or never."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once = at_once
        self.keeping = True
        self.admitted: list[str] = []
        self.settled: dict[str, Record] = {}
        self.settlement = asyncio.Event()
        self._waiting: list[Callable[[], None]] = []

    def admit(self, record: Record) -> None:
        assert record.request_id not in self.settled
        self.admitted.append(record.request_id)

    def note(self, record: Record) -> None:
        """Nothing to do: the record itself is kept."""

    def settle(self, record: Record, durable: Callable[[], None]) -> None:
        assert record.request_id not in self.settled, "settled twice"
        self.settled[record.request_id] = replace(record)
        self.settlement.set()
        if self.at_once:
            durable()
        else:
            self._waiting.append(durable)

    def amend(self, record: Record) -> None:
        if self.settled[record.request_id].usage_source in {UsageSource.NONE, UsageSource.ESTIMATED}:
            self.settled[record.request_id] = replace(record)

    @property
    def keeps(self) -> bool:
        return self.keeping

    def commit(self) -> None:
        """Make durable what waits."""
        waiting, self._waiting = self._waiting, []
        for durable in waiting:
            durable()


class MemoryPrices(dict[str, Price]):
    """A PriceBook."""

    def price(self, model: str) -> Price | None:
        return self.get(model)

    def context_tokens(self, model: str) -> int | None:
        return None


class HandSpending(LedgerSpending):
    """What was spent, by client; a test says it."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}

    async def since(self, begins_at: int, clients: Sequence[str]) -> Spent:
        found = [self.spent.get(client, Spent()) for client in clients]
        return Spent(sum(spent.tokens for spent in found), sum(spent.cost_nanousd for spent in found))


class MemoryAudit:
    """An AuditStore in a list."""

    def __init__(self) -> None:
        self.kept: list[AuditEntry] = []

    async def add(self, entry: AuditEntry) -> None:
        self.kept.append(entry)

    async def entries(self, since: int | None, until: int | None, most: int) -> Sequence[AuditEntry]:
        found = [e for e in self.kept if (since is None or e.at >= since) and (until is None or e.at < until)]
        return found[-most:]


class CountingObserver:
    """An Observer that counts."""

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()
        self.requests_refused: list[str] = []
        self.streams = 0
        self.began = asyncio.Event()
        self.overheads: list[float] = []
        self.amendments: list[Record] = []
        self.meter_failures = 0

    def refused(self, error_type: str) -> None:
        self.refusals[error_type] += 1

    def request_refused(self, error: ApiError, address: str | None, request: str) -> None:
        assert address != ""
        self.refused(error.error_type)
        self.requests_refused.append(request)

    def streams_changed(self, delta: int) -> None:
        self.streams += delta
        self.began.set()

    def overhead_measured(self, seconds: float) -> None:
        self.overheads.append(seconds)

    def amended(self, record: Record) -> None:
        self.amendments.append(record)

    def meter_failed(self) -> None:
        self.meter_failures += 1


class MemoryClientStore:
    """A ClientStore. While `gate` is closed, a new key waits before it counts, as it does for a disk."""

    def __init__(self) -> None:
        self.keys: dict[str, StoredKey] = {}
        self.clients: dict[str, StoredClient] = {}
        self.groups: dict[str, StoredGroup] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def load_keys(self) -> Sequence[StoredKey]:
        return [key for key in self.keys.values() if key.revoked_at is None]

    async def add_key(self, key: StoredKey, terms: ClientTerms = NO_TERMS, *, client_is_new: bool = False) -> None:
        await self.gate.wait()
        if client_is_new and key.client in self.clients:
            raise ValueError(key.client)
        self.keys[key.key_id] = key
        self.clients.setdefault(key.client, StoredClient(key.client, key.created_at, None, terms))

    async def change_key(self, key_id: str, *, expires_at: int | None, revoked_at: int | None) -> None:
        self.keys[key_id] = replace(self.keys[key_id], expires_at=expires_at, revoked_at=revoked_at)

    async def list_keys(self) -> Sequence[StoredKey]:
        return list(self.keys.values())

    async def list_clients(self) -> Sequence[StoredClient]:
        return [self.clients[name] for name in sorted(self.clients)]

    async def change_client(self, client: StoredClient) -> None:
        if client.name not in self.clients:
            raise LookupError(client.name)
        self.clients[client.name] = client

    async def list_groups(self) -> Sequence[StoredGroup]:
        return [self.groups[name] for name in sorted(self.groups)]

    async def put_group(self, group: StoredGroup) -> None:
        self.groups[group.name] = group
