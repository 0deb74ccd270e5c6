"""The only wiring: settings in, a running application out.

create_app() makes the application; its lifespan opens storage, prices, telemetry and the wire in this order, and closes
them in reverse. Nothing else in the program constructs these.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from app.domain.headers import towards_client, towards_upstream
from app.domain.leaving import GRACE_SECONDS
from app.domain.pricing import price_from_config
from app.domain.records import Record
from app.domain.request_ids import RequestIds
from app.gateway.bookkeeper import Bookkeeper
from app.gateway.clients import Clients, KeyDirectory
from app.gateway.clock import Clock
from app.gateway.gateway import Gateway
from app.gateway.key_guard import KeyGuard
from app.gateway.services import Services
from app.settings import Settings
from app.settings.admin_key import admin_key
from app.store.sqlite import SqliteStore, open_store
from app.store.stats import COMMIT_BOUNDS_SECONDS
from app.telemetry.exchange_log import ExchangeLog
from app.telemetry.histogram import Reading
from app.telemetry.logging import LogOutput
from app.telemetry.loop_lag import LoopLag
from app.telemetry.metrics import Gauges, Metrics
from app.upstream.account import OpenRouterAccount
from app.upstream.books import OpenRouterBooks
from app.upstream.documents import Documents
from app.upstream.pool import WireTimeouts
from app.upstream.prices import BundledPrices, provider_of
from app.upstream.wire import Target, Wire
from app.web.application import Application, make_application
from app.web.responses import ResponsesEndpoint


def create_app(settings: Settings, log: LogOutput | None = None, *, lock_wait_seconds: float = 0.0) -> Application:
    """The application. Without an upstream key it serves operators only (the command line uses it so)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _open(app, settings, log, lock_wait_seconds, stack)
            yield

    return make_application(lifespan)


async def _open(
    app: FastAPI, settings: Settings, log: LogOutput | None, lock_wait_seconds: float, stack: AsyncExitStack
) -> None:
    clock = Clock()
    prices = _prices(settings)
    metrics = Metrics(known=lambda model: prices.price(model) is not None)
    exchange_log = ExchangeLog(log) if log is not None else None
    bookkeeper: Bookkeeper | None = None

    def committed(records: list[Record]) -> None:
        if bookkeeper is not None:
            bookkeeper.committed(records)
        metrics.committed(records)
        if exchange_log is not None:
            exchange_log(records)

    store = await stack.enter_async_context(_store(settings, committed, lock_wait_seconds))
    directory = KeyDirectory()
    clients = Clients(store.clients, directory, clock.wall_us)
    await clients.load()
    wire, key_guard = _upstream(settings)
    stack.push_async_callback(wire.close)
    estimates = settings.ledger.missing_usage == "estimate"
    services = Services(wire, store.ledger, prices, metrics, clock, towards_client(), key_guard, estimates)
    ids = RequestIds(secrets.randbits(32))
    gateway = Gateway(services, directory, ids, towards_upstream(), settings.server.max_streams)
    stack.push_async_callback(gateway.close, GRACE_SECONDS)
    documents = _documents(app, settings, stack)
    if log is not None and documents is not None:  # a server; commands settle nothing
        bookkeeper = _bookkeeper(documents, store, services, stack)
    metrics.gauges = _gauges(store, wire, log, bookkeeper)
    if log is not None:  # a server; commands price nothing and block nobody
        lag = LoopLag(metrics.loop_lagged)
        lag.start()
        stack.callback(lag.stop)
        warming = asyncio.get_running_loop().run_in_executor(None, prices.warm)
        stack.push_async_callback(asyncio.wait, (warming,))
    app.state.clients = clients
    app.state.clock = clock
    app.state.render_metrics = metrics.render
    _publish(app, settings, store, gateway)
    if log is not None:
        log.redact.learn(app.state.admin_key)


def _store(
    settings: Settings, committed: Callable[[list[Record]], None], lock_wait_seconds: float
) -> AbstractAsyncContextManager[SqliteStore]:
    return open_store(
        settings.storage.state_dir,
        on_committed=committed,
        lock_wait_seconds=lock_wait_seconds,
        relaxed=settings.ledger.durability == "relaxed",
        retention_days=settings.ledger.retention_days,
    )


def _upstream(settings: Settings) -> tuple[Wire, KeyGuard]:
    upstream = settings.upstream
    # without a key nothing is sent; what stands in for it must not be found in any answer
    key = upstream.key.reveal() if upstream.key is not None else secrets.token_hex()
    timeouts = settings.upstream_timeouts
    wire = Wire(
        upstream.name,
        Target.of(upstream.base_url, ca_file=None if upstream.ca_file is None else str(upstream.ca_file)),
        key,
        WireTimeouts(timeouts.connect, timeouts.first_byte, timeouts.idle),
    )
    return wire, KeyGuard(key)


def _documents(app: FastAPI, settings: Settings, stack: AsyncExitStack) -> Documents | None:
    """What upstream tells the server's key beside answering calls. Nothing is asked until there is something to ask."""
    upstream = settings.upstream
    app.state.account = None
    if upstream.key is None:
        return None
    documents = Documents(upstream.base_url, upstream.key.reveal(), upstream.ca_file)
    stack.push_async_callback(documents.close)
    app.state.account = OpenRouterAccount(documents)
    return documents


def _bookkeeper(documents: Documents, store: SqliteStore, services: Services, stack: AsyncExitStack) -> Bookkeeper:
    bookkeeper = Bookkeeper(OpenRouterBooks(documents), store.reports, services)
    bookkeeper.start()
    stack.push_async_callback(bookkeeper.close)
    return bookkeeper


def _prices(settings: Settings) -> BundledPrices:
    overrides = {model: price_from_config(table) for model, table in settings.prices.items()}
    return BundledPrices(overrides, provider_of(settings.upstream.base_url))


def _gauges(store: SqliteStore, wire: Wire, log: LogOutput | None, bookkeeper: Bookkeeper | None) -> Gauges:
    stats = store.ledger.stats
    return Gauges(
        ledger_queue_depth=lambda: stats.queue_depth,
        ledger_commits=lambda: Reading.of(COMMIT_BOUNDS_SECONDS, stats.commit_buckets.copy(), stats.commit_seconds),
        ledger_dropped=lambda: stats.dropped,
        unsettled_records=None if bookkeeper is None else lambda: bookkeeper.unsettled,
        log_writes_dropped=None if log is None else lambda: log.sink.dropped,
        upstream_connections=wire.connections,
    )


def _publish(app: FastAPI, settings: Settings, store: SqliteStore, gateway: Gateway) -> None:
    """The rest of what routes find in `app.state`, and the hot route itself."""

    def readiness() -> dict[str, dict[str, Any]]:
        storage = store.health()
        keyed = settings.upstream.key is not None
        return {
            "storage": {"ok": storage.ok, "problem": storage.problem},
            "upstream_key": {"ok": keyed, "problem": None if keyed else "no upstream key is loaded"},
        }

    app.state.gateway = gateway
    app.state.upstream = {"name": settings.upstream.name, "base_url": settings.upstream.base_url}
    app.state.reports = store.reports
    app.state.readiness = readiness
    app.state.admin_key = admin_key(settings)
    if isinstance(app, Application) and settings.upstream.key is not None:
        app.hot = ResponsesEndpoint(gateway, settings.server.max_body_bytes)
