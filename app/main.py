"""Makes the application from the settings and connects its parts.

Only create_app() constructs them. The application's lifespan opens storage, prices, telemetry and the wire in this
order, and closes them in reverse.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from app.domain.disconnect import GRACE_SECONDS
from app.domain.errors import StorageUnavailable
from app.domain.headers import HeaderRule, towards_client, towards_upstream
from app.domain.identity.request_ids import RequestIds
from app.domain.money.worst_case import Assumptions
from app.domain.overload import OverloadDetector
from app.domain.records import Record, book_of
from app.gateway.admission.admission import Admission, AdmissionRules
from app.gateway.admission.body_memory import BodyMemory
from app.gateway.audit import AuditLog
from app.gateway.clients.key_use import KeyUse
from app.gateway.clients.keys import KeyDirectory, KeyService
from app.gateway.clients.terms_service import TermsService
from app.gateway.clock import Clock
from app.gateway.exchange.key_guard import KeyGuard
from app.gateway.gateway import Gateway
from app.gateway.key_health import KeyHealth
from app.gateway.services import Services
from app.gateway.unsettled import UnsettledCalls
from app.gateway.usage_reconciler import UsageReconciler
from app.gateway.wall_clock import MonotonicWallClock
from app.settings import Settings
from app.settings.admin_key import admin_key
from app.store.faults import StoreFault
from app.store.opening import opened_store
from app.store.store import Store
from app.telemetry.exchange_log import ExchangeLog
from app.telemetry.logging import LogOutput
from app.telemetry.loop_lag import LoopLag
from app.telemetry.metrics import Metrics
from app.upstream.api.account import OpenRouterAccount
from app.upstream.api.client import UpstreamApi
from app.upstream.api.key_check import UpstreamKeyCheck
from app.upstream.api.usage_lookup import UpstreamUsageLookup
from app.upstream.prices.bundled import BundledPrices
from app.upstream.prices.learner import PriceLearner
from app.upstream.prices.listing import PriceListing
from app.upstream.wire.pool import WireTimeouts
from app.upstream.wire.wire import UpstreamWire
from app.web.application import Application, make_application
from app.web.cross_origin import CrossOrigin
from app.web.doors.responses import ResponsesEndpoint
from app.web.routes.caller_figures import CallerFigures
from app.web.routes.client_rate import FREE_CALLS_A_MINUTE, ClientRate
from app.web.routes.probes import HealthPart
from app.wiring.gauges import gauges, metrics_page
from app.wiring.limits import memory_limits, redis_limits
from app.wiring.models import model_lists

if TYPE_CHECKING:
    from app.limits.redis.limiter import RedisLimiter

_log = logging.getLogger(__name__)


def create_app(settings: Settings, log: LogOutput | None = None, *, lock_wait_seconds: float = 0.0) -> Application:
    """The application. Without an upstream key it serves operators only, as the command line uses it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await _open(app, settings, log, lock_wait_seconds, stack)
            except StorageUnavailable as error:
                raise StoreFault("clients and keys cannot be read: see `weighbridge db check`") from error
            yield

    return make_application(lifespan)


async def _open(
    app: FastAPI, settings: Settings, log: LogOutput | None, lock_wait_seconds: float, stack: AsyncExitStack
) -> None:
    clock = Clock()
    prices = BundledPrices.of(settings.prices, settings.upstream.base_url)
    metrics = Metrics(known=lambda model: prices.price(model) is not None)
    listeners: list[Callable[[list[Record]], None]] = [metrics.committed]
    if log is not None:
        listeners.append(ExchangeLog(log))

    def committed(records: list[Record]) -> None:
        for listener in listeners:
            listener(records)

    process = secrets.randbits(32)
    store = await stack.enter_async_context(_store(settings, committed, lock_wait_seconds, process, log))
    directory, redis = KeyDirectory(), await redis_limits(settings, store, clock, stack)
    limiter = redis or memory_limits(settings, store, clock)
    key_use, defaults = KeyUse(store.clients), settings.client_defaults.terms
    app.state.figures = figures = CallerFigures(clock.monotonic)
    if log is not None:  # a server; commands admit no calls
        listeners += [key_use.committed, figures.committed]
        await stack.enter_async_context(key_use)
    clients = KeyService(store.clients, directory, clock.wall_us, defaults, limiter.prepare, key_use.last_used)
    await clients.load()
    terms_service = TermsService(store.clients, directory.clients, limiter, clock.wall_us)
    await terms_service.load(prepare=log is not None)  # a server; commands admit no calls
    wire, upstream_api, key_guard, key_health = _upstream(app, settings, stack)
    estimates = settings.ledger.missing_usage == "estimate"
    services = Services(wire, store.ledger, prices, metrics, clock, towards_client(), key_guard, estimates, key_health)
    unsettled = app.state.unsettled = UnsettledCalls(store.reports, services, terms_service.amended)
    admission, ids = Admission(services, limiter, _admission_rules(settings), unsettled), RequestIds(process)
    gateway = Gateway(services, directory, admission, ids, _header_rule(settings), settings.server.max_streams)
    stack.push_async_callback(gateway.close, GRACE_SECONDS)
    reconciler: UsageReconciler | None = None
    if log is not None and upstream_api is not None:  # a server; commands settle nothing
        reconciler = _usage_reconciler(upstream_api, store, services, terms_service, stack)
        listeners.insert(0, reconciler.committed)
        unsettled.settled = reconciler.forget
    metrics.gauges = gauges(store, wire, log, reconciler, redis)
    if log is not None:  # a server; commands need neither
        _measure_lag(_lag_observer(metrics, gateway, OverloadDetector(settings.server.max_loop_lag)), stack)
        _follow_changes(store, clients, terms_service, gateway)
    app.state.model_lists = model_lists(upstream_api, key_guard, prices, clock, stack)
    app.state.price_list = _price_list(prices, settings, upstream_api, stack, serving=log is not None)
    app.state.clients, app.state.terms_service, app.state.clock = clients, terms_service, clock
    app.state.metrics, app.state.render_metrics = metrics, metrics_page(metrics)
    _publish(app, settings, store, gateway, redis)
    if log is not None:
        log.redact.learn(app.state.admin_key)


def _price_list(
    prices: BundledPrices, settings: Settings, upstream_api: UpstreamApi | None, stack: AsyncExitStack, *, serving: bool
) -> PriceListing:
    """The price book for operators. A server loads it in a thread and asks upstream for prices."""
    learner = None
    if serving:
        warming = asyncio.get_running_loop().run_in_executor(None, prices.warm)
        stack.push_async_callback(asyncio.wait, (warming,))
        if upstream_api is not None:
            learner = PriceLearner(upstream_api, prices, settings.upstream.name).start()
            stack.push_async_callback(learner.close)
    return PriceListing(prices, learner)


def _follow_changes(store: Store, clients: KeyService, terms_service: TermsService, gateway: Gateway) -> None:
    """End running calls when their client or key changes so, also when another process makes the change."""
    clients.revoked, terms_service.changed = lambda key_id: gateway.end_keys((key_id,)), gateway.end_disabled

    async def reload() -> None:
        await clients.load()
        gateway.end_keys(await clients.cut_keys(gateway.key_ids))
        await terms_service.load()

    store.on_changes(reload)


def _measure_lag(observer: Callable[[float], None], stack: AsyncExitStack) -> None:
    lag = LoopLag(observer)
    lag.start()
    stack.callback(lag.stop)


def _lag_observer(metrics: Metrics, gateway: Gateway, detector: OverloadDetector) -> Callable[[float], None]:
    def note(seconds: float) -> None:
        metrics.loop_lagged(seconds)
        gateway.overloaded = detector.note(seconds)

    return note


def _store(
    settings: Settings,
    committed: Callable[[list[Record]], None],
    lock_wait_seconds: float,
    process: int,
    log: LogOutput | None,
) -> AbstractAsyncContextManager[Store]:
    url = settings.storage.database_url
    return opened_store(
        None if url is None else url.reveal(),
        settings.storage.state_dir,
        process=process,
        open_calls=0 if log is None else _slots(settings),  # commands admit no calls
        on_committed=committed,
        lock_wait_seconds=lock_wait_seconds,
        relaxed=settings.ledger.durability == "relaxed",
        retention_days=settings.ledger.retention_days,
        now=MonotonicWallClock(Clock()).now,
    )


def _slots(settings: Settings) -> int:
    """Room for all open calls, and for those whose records are on their way to disk."""
    return settings.server.max_streams + settings.server.max_streams // 10 + 1000


def _upstream(
    app: FastAPI, settings: Settings, stack: AsyncExitStack
) -> tuple[UpstreamWire, UpstreamApi | None, KeyGuard, KeyHealth]:
    """The wire and upstream's ordinary routes. Neither connects before its first use."""
    upstream, timeouts = settings.upstream, settings.upstream_timeouts
    # without a key nothing is sent; its replacement must not appear in any answer
    key = upstream.key.reveal() if upstream.key is not None else secrets.token_hex()
    target = upstream.target()
    wire = UpstreamWire(upstream.name, target, key, WireTimeouts(timeouts.connect, timeouts.first_byte, timeouts.idle))
    stack.push_async_callback(wire.close)
    upstream_api = None if upstream.key is None else UpstreamApi(target, key)
    app.state.account = app.state.key_check = None
    if upstream_api is not None:
        stack.push_async_callback(upstream_api.close)
        app.state.account = OpenRouterAccount(upstream_api)
        app.state.key_check = UpstreamKeyCheck(upstream_api)
    health = KeyHealth(app.state.key_check)
    stack.push_async_callback(health.close)
    return wire, upstream_api, KeyGuard(key), health


def _header_rule(settings: Settings) -> HeaderRule:
    upstream = settings.upstream

    def dropped(name: str) -> None:
        _log.info("a header of callers is not forwarded: %s (to forward it: [[upstream]] pass_headers)", name)

    return towards_upstream(openai=upstream.is_openai, more=upstream.pass_headers, dropped=dropped)


def _admission_rules(settings: Settings) -> AdmissionRules:
    rules = settings.limits
    return AdmissionRules(
        Assumptions(rules.bytes_per_token, rules.output_ceiling),
        refuse_unknown_price=rules.unknown_price == "refuse",
        last_call=rules.last_call == "admit",
    )


def _usage_reconciler(
    upstream_api: UpstreamApi, store: Store, services: Services, terms_service: TermsService, stack: AsyncExitStack
) -> UsageReconciler:
    lookup, stats = UpstreamUsageLookup(upstream_api), store.ledger.stats
    made = UsageReconciler(
        lookup, store.reports, services, amended=terms_service.amended, interrupted=lambda: stats.interrupted
    )
    made.start()
    stack.push_async_callback(made.close)
    return made


def _publish(app: FastAPI, settings: Settings, store: Store, gateway: Gateway, redis: "RedisLimiter | None") -> None:
    """Set the rest of `app.state` for routes, and the hot route."""

    def readiness() -> dict[str, HealthPart]:
        storage = store.health()
        keyed = settings.upstream.key is not None
        shared = {} if redis is None else {"limits": HealthPart(redis.problem)}
        return {
            "serving": HealthPart(problem="the server is stopping" if gateway.draining else None, red=gateway.draining),
            "storage": HealthPart(
                storage.problem, red=storage.ended, more={"kept": storage.keeps, "waiting": storage.spooled}
            ),
            "upstream_key": HealthPart(problem=None if keyed else "no upstream key is loaded", red=not keyed),
            "upstream": HealthPart(gateway.key_problem),
            **shared,
        }

    app.state.gateway = gateway
    app.state.finish_writing = store.finish_writing
    app.state.free_calls = ClientRate(FREE_CALLS_A_MINUTE, "make calls that cost nothing", app.state.clock.monotonic)
    app.state.audit = AuditLog(store.audit, app.state.clock.wall_us)
    app.state.url, app.state.other_urls = None, []  # until it serves
    app.state.public_url = settings.server.public_url
    app.state.upstream = {"name": settings.upstream.name, "base_url": settings.upstream.base_url}
    app.state.reports = store.reports
    app.state.book = book_of(settings.upstream.name)
    app.state.readiness = readiness
    app.state.admin_key = admin_key(settings)
    origins = frozenset(origin.encode("ascii") for origin in settings.server.allowed_origins)
    if isinstance(app, Application) and origins:
        app.cross_origin = CrossOrigin(origins)
    if isinstance(app, Application) and settings.upstream.key is not None:
        memory = BodyMemory(settings.server.max_buffered_bytes)
        app.hot = ResponsesEndpoint(gateway, settings.server.max_body_bytes, memory)
