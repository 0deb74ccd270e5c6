"""One exchange: a call goes upstream, its answer comes back byte for byte, and what it weighed is settled once.

    begin ──> waiting ──head 2xx──> passing ──terminal event, end, break──> committing ──durable──> settled ──> over
                 │                     │                                        ^
                 ├──head 4xx, 5xx──> collecting ──end: pass it on or replace it─┤
                 ├──head 3xx, 401, 403; fault ──────────── our own error ───────┤
                 └─────────────────────┴──────────── the client leaves, we stop ┘  (nothing more is sent)

While passing, a chunk goes on in the callback that brought it. The chunk that makes the answer's end visible (the
terminal event, the close of a JSON body) and what follows it wait in `_held` until the record is durable: promise P2.
The wire pushes in (UpstreamListener), the door takes out (Downstream) and says when its client is slow or gone.
No method blocks, awaits or raises.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from app.domain.errors import (
    ApiError,
    UpstreamAuthFailed,
    UpstreamErrorReplaced,
    UpstreamFault,
    UpstreamRedirected,
)
from app.domain.headers import HeaderRule, value_of, with_defaults
from app.domain.records import Outcome, Record
from app.gateway.clock import Clock
from app.gateway.error_answers import ErrorAnswer
from app.gateway.key_guard import KeyGuard
from app.gateway.ports import Downstream, Headers, Ledger, Observer, PriceBook, Upstream, UpstreamCall, UpstreamRequest
from app.gateway.settlement import outcome_of, outcome_of_fault, write_reading
from app.gateway.tap import Tap

_log = logging.getLogger(__name__)

_HELD_BYTES = 256 * 1024
_STREAM_DEFAULTS = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_EVENT_STREAM = b"text/event-stream"
_MAX_ID_LENGTH = 128


class _Phase(Enum):
    WAITING = auto()
    COLLECTING = auto()
    PASSING = auto()
    COMMITTING = auto()
    SETTLED = auto()
    OVER = auto()


@dataclass(slots=True, frozen=True)
class Services:
    """What every exchange of a server shares."""

    upstream: Upstream
    ledger: Ledger
    prices: PriceBook
    observer: Observer
    clock: Clock
    to_client: HeaderRule
    key_guard: KeyGuard


class Exchange:
    """Implements UpstreamListener for the wire; the door calls begin or reject, then pause, resume, leave, interrupt."""

    __slots__ = (
        "_call",
        "_downstream",
        "_ending",
        "_error_answer",
        "_held",
        "_held_bytes",
        "_on_over",
        "_phase",
        "_refusal",
        "_services",
        "_started",
        "_tap",
        "_watch",
        "record",
    )

    def __init__(
        self, record: Record, downstream: Downstream, services: Services, on_over: Callable[[], None], started: float
    ) -> None:
        """`started` is the monotonic second at which the request came; `on_over` is called once, at settlement."""
        self.record = record
        self._downstream = downstream
        self._services = services
        self._on_over = on_over
        self._started = started
        self._phase = _Phase.WAITING
        self._call: UpstreamCall | None = None
        self._tap = Tap()
        self._watch = services.key_guard.watch()
        self._error_answer: ErrorAnswer | None = None
        self._refusal: ApiError | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._ending: Callable[[], None] | None = None

    @property
    def committing(self) -> bool:
        """Does all that is to be sent wait for the record? (Not for long.)"""
        return self._phase is _Phase.COMMITTING

    # -- the door's side ---------------------------------------------------------------------------------------

    def begin(self, request: UpstreamRequest) -> None:
        """Send the call upstream."""
        self.record.bytes_in = len(request.body)
        self._services.ledger.admit(self.record)
        self._services.observer.overhead_measured(self._services.clock.monotonic() - self._started)
        self._call = self._services.upstream.open(request, self)

    def reject(self, error: ApiError) -> None:
        """Answer with our own error instead of asking upstream."""
        self._services.observer.refused(error.error_type)
        self._refuse(error, Outcome.REJECTED)

    def pause(self) -> None:
        """The client does not keep up: stop reading from upstream."""
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """The client has caught up."""
        if self._call is not None:
            self._call.resume()

    def leave(self) -> None:
        """The client is gone: upstream is closed at once, whatever the stage."""
        self._stop(Outcome.CLIENT_CLOSED)

    def interrupt(self) -> None:
        """We are stopping."""
        self._stop(Outcome.INTERRUPTED)

    # -- the wire's side ---------------------------------------------------------------------------------------

    def head(self, status: int, headers: Headers, retry_count: int) -> None:
        """Decide by the status: pass, collect an error, or refuse."""
        record = self.record
        record.retry_count = retry_count
        record.time_to_first_byte_ms = self._elapsed_ms()
        generation_id = value_of(headers, b"x-generation-id")
        if generation_id is not None:
            record.generation_id = generation_id.decode("latin-1")[:_MAX_ID_LENGTH]
        headers = self._crossing(headers)
        if 200 <= status < 300:
            self._pass_on(status, headers)
        elif status in (401, 403):
            message = (
                f"Upstream refused this call (HTTP {status}): it does not accept this server's key, or its rules forbid "
                "the request. The operator of this server can find out which."
            )
            self._refuse(UpstreamAuthFailed(message), Outcome.UPSTREAM_ERROR)
        elif status < 400:
            message = f"Upstream answered with a redirect (HTTP {status}), which is not followed."
            self._refuse(UpstreamRedirected(message), Outcome.UPSTREAM_ERROR)
        else:
            self._phase = _Phase.COLLECTING  # judged as a whole, also for the key
            self._error_answer = ErrorAnswer(status, headers)

    def data(self, chunk: bytes) -> None:
        """Pass a chunk on, or hold it while the record is committed."""
        phase = self._phase
        if self._watch.sees_key(chunk) and phase is not _Phase.COLLECTING:
            self._break_off()
        elif phase is _Phase.PASSING:
            self.record.bytes_out += len(chunk)
            if self._tap.feed(chunk):
                self._hold(chunk)
                self._settle(outcome_of(self._tap.reading, Outcome.COMPLETED))
            else:
                self._downstream.body(chunk)
        elif phase is _Phase.SETTLED:
            self._downstream.body(chunk)
        elif phase is _Phase.COMMITTING and self._refusal is None:
            self._hold(chunk)
        elif phase is _Phase.COLLECTING and self._error_answer is not None and not self._error_answer.collect(chunk):
            self._refuse_error_answer()

    def end(self) -> None:
        """Upstream's answer is whole."""
        phase = self._phase
        if phase is _Phase.PASSING:
            self._ending = self._downstream.finish
            self._tap.end()
            self._settle(outcome_of(self._tap.reading, self._tap.outcome_at_end))
        elif phase is _Phase.COMMITTING:
            self._ending = self._downstream.finish
        elif phase is _Phase.SETTLED:
            self._over(self._downstream.finish)
        elif phase is _Phase.COLLECTING:
            self._refuse_error_answer()

    def broken(self, fault: UpstreamFault, retry_count: int) -> None:
        """Upstream broke off: before the head that is an answer of ours, after it our side breaks off too."""
        phase = self._phase
        self.record.retry_count = retry_count
        if phase is _Phase.PASSING:
            self._ending = self._downstream.abort
            self.record.error_type = self._tap.reading.error_code or fault.error_type
            self._settle(outcome_of(self._tap.reading, outcome_of_fault(fault, answering=True)))
        elif phase is _Phase.COMMITTING:
            self._ending = self._downstream.abort
        elif phase is _Phase.SETTLED:
            self._over(self._downstream.abort)
        elif phase in (_Phase.WAITING, _Phase.COLLECTING):
            self._refuse(fault, outcome_of_fault(fault, answering=False))

    # -- answering ---------------------------------------------------------------------------------------------

    def _crossing(self, headers: Headers) -> Headers:
        guard = self._services.key_guard
        crossing = [header for header in self._services.to_client.select(headers) if not guard.found_in(header[1])]
        return with_defaults(crossing, ((b"x-request-id", self.record.request_id.encode("ascii")),))

    def _pass_on(self, status: int, headers: Headers) -> None:
        self._phase = _Phase.PASSING
        self.record.http_status = status
        content_type = value_of(headers, b"content-type")
        self._tap.expect(self.record.stream, content_type, value_of(headers, b"content-encoding"))
        if (content_type is None and self.record.stream) or (content_type or b"").lower().startswith(_EVENT_STREAM):
            headers = with_defaults(headers, _STREAM_DEFAULTS)
        self._downstream.start(status, headers)

    def _refuse(self, error: ApiError, outcome: Outcome) -> None:
        self._refusal = error
        self.record.http_status = error.status
        self.record.error_type = error.error_type
        self._ending = self._send_refusal
        if self._call is not None:
            self._call.cancel()
        self._settle(outcome)

    def _send_refusal(self) -> None:
        if self._refusal is not None:
            self._downstream.refuse(self._refusal)

    def _refuse_error_answer(self) -> None:
        """Upstream's own error is here: pass it on verbatim, or replace what must not pass."""
        answer = self._error_answer
        if answer is None:
            return
        replacement = answer.judge(self._services.key_guard)
        if replacement is not None:
            self._refuse(replacement, Outcome.UPSTREAM_ERROR)
            return
        self.record.http_status = answer.status
        self.record.error_type = answer.error_code
        self.record.bytes_out = len(answer.body)
        self._ending = self._send_error_answer
        self._settle(Outcome.UPSTREAM_ERROR)

    def _send_error_answer(self) -> None:
        if self._error_answer is not None:
            self._downstream.start(self._error_answer.status, self._error_answer.headers)
            self._downstream.body(self._error_answer.body)
            self._downstream.finish()

    # -- settling ----------------------------------------------------------------------------------------------

    def _hold(self, chunk: bytes) -> None:
        self._held.append(chunk)
        self._held_bytes += len(chunk)
        if self._held_bytes > _HELD_BYTES and self._call is not None:
            self._call.pause()

    def _settle(self, outcome: Outcome) -> None:
        """The one way into the ledger. What is held goes out when the record is durable."""
        self._phase = _Phase.COMMITTING
        record = self.record
        record.outcome = outcome
        record.duration_ms = self._elapsed_ms()
        record.finished_at = record.started_at + int(record.duration_ms * 1000)
        write_reading(record, self._tap.reading, self._services.prices)
        if record.error_type is None and outcome is Outcome.FAILED:
            record.error_type = "upstream_error"
        if self._tap.failed:
            self._services.observer.meter_failed()
        self._on_over()
        self._services.ledger.settle(record, self._durable)

    def _durable(self) -> None:
        if self._phase is not _Phase.COMMITTING:
            return  # the client left meanwhile
        self._phase = _Phase.SETTLED
        if self._held:
            held, self._held = self._held, []
            self._downstream.body(held[0] if len(held) == 1 else b"".join(held))
            if self._held_bytes > _HELD_BYTES:
                self.resume()
        if self._ending is not None:
            self._over(self._ending)

    def _stop(self, outcome: Outcome) -> None:
        phase, self._phase = self._phase, _Phase.OVER
        if self._call is not None:
            self._call.cancel()
        if phase not in (_Phase.COMMITTING, _Phase.SETTLED, _Phase.OVER):
            self._settle(outcome_of(self._tap.reading, outcome))
            self._phase = _Phase.OVER

    def _break_off(self) -> None:
        """The upstream key is in the answer: not one byte more goes to the client."""
        _log.critical("the upstream key stands in upstream's answer to %s: broken off", self.record.request_id)
        if self._call is not None:
            self._call.cancel()
        self._held.clear()
        self._ending = self._downstream.abort
        if self._phase is _Phase.SETTLED:
            self._over(self._ending)
        elif self._phase is _Phase.PASSING:
            self.record.error_type = UpstreamErrorReplaced.error_type
            self._settle(Outcome.TRUNCATED)

    def _over(self, ending: Callable[[], None]) -> None:
        self._phase = _Phase.OVER
        ending()

    def _elapsed_ms(self) -> float:
        return round((self._services.clock.monotonic() - self._started) * 1000, 3)
