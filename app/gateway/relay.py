"""One exchange: a call goes upstream, its answer comes back byte for byte, and what it weighed is settled once.

    begin ──> waiting ──head 2xx──> passing ──terminal event, end, break──> committing ──durable──> settled ──> over
                 │                     │                                        ^
                 ├──head 4xx, 5xx──> collecting ──end: pass it on or replace it─┤
                 ├──head 3xx, 401, 403; fault ──────────── our own error ───────┤
                 └─────────────────────┴──────────── the client leaves, we stop ┘  (nothing more is sent)

A client that leaves takes upstream with it, or all goes on as drawn for a while, towards nobody (app.domain.leaving).

While passing, a chunk goes on in the callback that brought it. The chunk that makes the answer's end visible (the
terminal event, the close of a JSON body) and what follows it wait in `_hold` until the record is durable: promise P2.
The wire pushes in, the door takes out and says when its client is slow or gone. No method blocks, awaits or raises.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from app.domain.errors import ApiError, Draining, UpstreamErrorReplaced
from app.domain.headers import Headers, announced_length
from app.domain.leaving import LeavePolicy
from app.domain.records import Outcome, Record
from app.gateway.answer_head import Values, add_stream_defaults, crossing, generation_id_in
from app.gateway.error_answers import ErrorAnswer, refusal_of
from app.gateway.hold import ENOUGH_BYTES, Hold
from app.gateway.nobody import NOBODY
from app.gateway.phase import Phase
from app.gateway.ports import Downstream, UpstreamCall, UpstreamRequest
from app.gateway.services import Services
from app.gateway.settlement import close_record, note_response, outcome_of, outcome_of_fault, outcome_unseen
from app.gateway.tap import Tap

_log = logging.getLogger(__name__)


class Exchange:
    """UpstreamListener for the wire. The door calls begin or reject, then pause, resume, leave, interrupt at need."""

    def __init__(  # noqa: PLR0913, PLR0917 - what one call is made of
        self,
        record: Record,
        downstream: Downstream,
        services: Services,
        on_over: "Callable[[Exchange], None]",
        started: float,
        policy: LeavePolicy,
    ) -> None:
        """`started` is the monotonic second at which the request came; `on_over` is called once, at settlement."""
        self.record = record
        self._downstream = downstream
        self._services = services
        self._on_over = on_over
        self._started = started
        self._policy = policy
        self._last_chunk = b""
        self._patience: asyncio.TimerHandle | None = None
        self._phase = Phase.WAITING
        self._call: UpstreamCall | None = None
        self._tap = Tap()
        self._watch = services.key_guard.watch()
        self._error_answer: ErrorAnswer  # while collecting
        self._hold = Hold()
        self._announced_bytes: int | None = None
        self._client_slow = False
        self._ending: Callable[[], None] | None = None

    @property
    def committing(self) -> bool:
        """Does all that is to be sent wait for the record? It will not for long."""
        return self._phase is Phase.COMMITTING

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
        self._client_slow = True
        self._throttle()

    def resume(self) -> None:
        """The client has caught up."""
        self._client_slow = False
        self._throttle()

    def leave(self) -> None:
        """The client is gone: upstream is closed at once, or read on for as long as the client's policy says."""
        reading = self._call is not None and self._phase in (Phase.WAITING, Phase.PASSING)
        wait = self._policy.wait_seconds(self._last_chunk) if reading else 0.0
        if not wait:
            self._stop(Outcome.CLIENT_CLOSED)
            return
        self._downstream = NOBODY
        self.resume()
        self._patience = asyncio.get_running_loop().call_later(wait, self._stop, Outcome.CLIENT_CLOSED)

    def interrupt(self) -> None:
        """The door can not go on with it: nothing more is sent."""
        self._stop(Outcome.INTERRUPTED)

    def stop(self) -> None:
        """The server stops: what has no answer yet is told so, what has one is broken off."""
        if self._call is not None:  # else the door is still reading the request, and interrupts
            self._call.cancel()
            self.broken(Draining("This server has stopped. Try again in a moment."), self.record.retry_count)

    # -- the wire's side ---------------------------------------------------------------------------------------

    def head(self, status: int, headers: Headers, retry_count: int) -> None:
        """Decide by the status: pass, collect an error, or refuse."""
        record = self.record
        record.retry_count = retry_count
        record.time_to_first_byte_ms = self._elapsed_ms()
        headers, values = crossing(headers, self._services, record.request_id)
        record.generation_id = generation_id_in(values)
        if record.generation_id is not None:
            self._services.ledger.note(record)
        if 200 <= status < 300:
            self._pass_on(status, headers, values)
        elif (refusal := refusal_of(status)) is not None:
            self._refuse(refusal, Outcome.UPSTREAM_ERROR)
        else:
            self._phase = Phase.COLLECTING  # judged as a whole, also for the key
            self._error_answer = ErrorAnswer(status, headers)

    def data(self, chunk: bytes) -> None:
        """Pass a chunk on, or hold it while the record is committed."""
        phase = self._phase
        if self._watch.sees_key(chunk) and phase is not Phase.COLLECTING:
            self._break_off()
        elif phase is Phase.PASSING:
            record = self.record
            record.bytes_out += len(chunk)
            if self._tap.feed(chunk):
                self._keep_back(chunk)
                self._settle(outcome_of(self._tap.reading, Outcome.COMPLETED))
            elif record.bytes_out == self._announced_bytes:  # an end that any client sees, whatever the meter does
                self._keep_back(chunk)
                self._settle_at_end()
            else:
                self._last_chunk = chunk
                if record.background:
                    note_response(record, self._tap.reading, self._services.ledger)
                self._downstream.body(chunk)
        elif phase is Phase.SETTLED:
            self._downstream.body(chunk)
        elif phase is Phase.COMMITTING:
            self._keep_back(chunk)
        elif phase is Phase.COLLECTING and not self._error_answer.collect(chunk):
            self._refuse_error_answer()

    def end(self) -> None:
        """Upstream's answer is whole."""
        phase = self._phase
        if phase is Phase.PASSING:
            self._ending = self._downstream.finish
            self._settle_at_end()
        elif phase is Phase.COMMITTING:
            self._ending = self._downstream.finish
        elif phase is Phase.SETTLED:
            self._over(self._downstream.finish)
        elif phase is Phase.COLLECTING:
            self._refuse_error_answer()

    def broken(self, fault: ApiError, retry_count: int) -> None:
        """Upstream broke off, or we do: before the head that is an answer of ours, after it our side breaks off too."""
        phase = self._phase
        if phase is Phase.PASSING:
            self._ending = self._downstream.abort
            self.record.error_type = self._tap.reading.error_code or fault.error_type
            self._settle(outcome_of(self._tap.reading, outcome_of_fault(fault, answering=True)))
        elif phase is Phase.COMMITTING:
            self._ending = self._downstream.abort
        elif phase is Phase.SETTLED:
            self._over(self._downstream.abort)
        elif phase in (Phase.WAITING, Phase.COLLECTING):
            self.record.retry_count = retry_count
            self._refuse(fault, outcome_of_fault(fault, answering=False))

    # -- answering ---------------------------------------------------------------------------------------------

    def _pass_on(self, status: int, headers: Headers, values: Values) -> None:
        self._phase = Phase.PASSING
        self.record.http_status = status
        self._announced_bytes = announced_length(values.get(b"content-length"))
        asked = self.record.stream
        self._tap.expect(asked, values.get(b"content-type"), values.get(b"content-encoding"))
        add_stream_defaults(headers, values, asked_for=asked)
        self._downstream.start(status, headers)

    def _refuse(self, error: ApiError, outcome: Outcome) -> None:
        self.record.http_status = error.status
        self.record.error_type = error.error_type
        self._ending = partial(self._downstream.refuse, error)
        if self._call is not None:
            self._call.cancel()
        self._settle(outcome)

    def _refuse_error_answer(self) -> None:
        """Upstream's own error is here: pass it on verbatim, or replace what must not pass."""
        answer = self._error_answer
        if (replacement := answer.judge(self._services.key_guard)) is not None:
            self._refuse(replacement, Outcome.UPSTREAM_ERROR)
            return
        answer.describe(self.record)
        self._ending = partial(answer.send, self._downstream)
        self._settle(Outcome.UPSTREAM_ERROR)

    # -- settling ----------------------------------------------------------------------------------------------

    def _keep_back(self, chunk: bytes) -> None:
        self._hold.add(chunk)
        if self._hold.size > ENOUGH_BYTES:
            self._throttle()

    def _throttle(self) -> None:
        """Upstream waits for the client, and for the commit when much is held."""
        waits = self._client_slow or self._hold.size > ENOUGH_BYTES
        if self._call is not None:
            (self._call.pause if waits else self._call.resume)()

    def _settle_at_end(self) -> None:
        self._tap.end()
        self._settle(outcome_of(self._tap.reading, self._tap.outcome_at_end))

    def _settle(self, outcome: Outcome) -> None:
        """The one way into the ledger. What is held goes out when the record is durable."""
        self._phase = Phase.COMMITTING
        if self._downstream is NOBODY:
            outcome = outcome_unseen(outcome)
        close_record(self.record, outcome, self._elapsed_ms(), self._tap.reading, self._services)
        if self._tap.failed:
            self._services.observer.meter_failed()
        self._weighed()
        self._services.ledger.settle(self.record, self._durable)

    def _weighed(self) -> None:
        """The record is closed, and not written yet."""
        self._on_over(self)

    def _durable(self) -> None:
        if self._phase is not Phase.COMMITTING:
            return  # the client left meanwhile
        self._phase = Phase.SETTLED
        if self._hold.size:
            much = self._hold.size > ENOUGH_BYTES
            self._downstream.body(self._hold.release())
            if much:
                self._throttle()
        if self._ending is not None:
            self._over(self._ending)

    def _stop(self, outcome: Outcome) -> None:
        phase, self._phase = self._phase, Phase.OVER
        if self._call is not None:
            self._call.cancel()
        if phase not in (Phase.COMMITTING, Phase.SETTLED, Phase.OVER):
            self._settle(outcome_of(self._tap.reading, outcome))
            self._phase = Phase.OVER
        self._let_go()

    def _break_off(self) -> None:
        """The upstream key is in the answer: not one byte more goes to the client."""
        _log.critical("the upstream key stands in upstream's answer to %s: broken off", self.record.request_id)
        if self._call is not None:
            self._call.cancel()
        self._hold.release()
        self._ending = self._downstream.abort
        if self._phase is Phase.SETTLED:
            self._over(self._ending)
        elif self._phase is Phase.PASSING:
            self.record.error_type = UpstreamErrorReplaced.error_type
            self._settle(Outcome.TRUNCATED)

    def _over(self, ending: Callable[[], None]) -> None:
        self._phase = Phase.OVER
        ending()
        self._let_go()

    def _let_go(self) -> None:
        """Of both sides, which hold the exchange as well: so all three are freed at once, without a collection."""
        if self._patience is not None:
            self._patience.cancel()
        self._call = self._ending = None
        self._downstream = NOBODY

    def _elapsed_ms(self) -> float:
        return round((self._services.clock.monotonic() - self._started) * 1000, 3)
