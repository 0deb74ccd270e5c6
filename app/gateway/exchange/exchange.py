"""One exchange: a call goes upstream, its answer comes back byte for byte, and it is settled once.

    begin ──> waiting ──head 2xx──> passing ──terminal event, end, break──> committing ──durable──> settled ──> over
                 │                     │                                        ^
                 ├──head 4xx, 5xx──> collecting ──end: pass it on or replace it─┤
                 ├──head 3xx, 401; fault ───────────────── our own error ───────┤
                 └─────────────────────┴── end_by(Ending): the client, or we ───┘

A client that leaves ends it, or the exchange goes on for a while with a NullDownstream (app.domain.disconnect). While
passing, each chunk goes on in the callback that brought it. The chunk that makes the answer's end visible (the terminal
event, the close of a JSON body) and what follows it wait in `buffer` until the record is durable.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from app.domain.disconnect import DisconnectPolicy
from app.domain.errors import ApiError
from app.domain.headers import Headers, announced_length
from app.domain.records import Outcome, Record
from app.gateway.admission.limit_headers import add_limit_headers
from app.gateway.exchange.answer_head import Values, add_stream_defaults, crossing
from app.gateway.exchange.answer_meter import AnswerMeter
from app.gateway.exchange.commit_buffer import CommitBuffer
from app.gateway.exchange.ending import Ending
from app.gateway.exchange.error_answers import ErrorAnswer, refusal_of
from app.gateway.exchange.null_downstream import NULL_DOWNSTREAM
from app.gateway.exchange.phase import Phase
from app.gateway.exchange.settlement import close_record, note_response, outcome_of, outcome_of_fault, outcome_unseen
from app.gateway.ports import Downstream, UpstreamCall, UpstreamListener, UpstreamRequest
from app.gateway.services import Services

if TYPE_CHECKING:
    from app.gateway.admission.reservation import Reservation

_log = logging.getLogger(__name__)


class Exchange:
    """An UpstreamListener. A door calls begin() or reject(), and leave() if the client leaves. No method blocks.

    `phase` and `meter` are for others to read; `buffer` paces upstream. `reservation` is set once the limits have
    granted it; `asking`: the limiter has yet to answer.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what one call is made of
        self,
        record: Record,
        downstream: Downstream,
        services: Services,
        on_over: "Callable[[Exchange], None]",
        started: float,
        policy: DisconnectPolicy,
    ) -> None:
        """`started` is the monotonic second at which the request came; `on_over` is called once, at settlement."""
        self.record = record
        self.reservation: Reservation | None = None
        self.asking = False
        self._downstream = downstream
        self._services, self._on_over = services, on_over
        self._started, self._policy = started, policy
        self._last_chunk = b""
        self._patience: asyncio.TimerHandle | None = None
        self._closes_at_head = False
        self.phase = Phase.WAITING
        self._call: UpstreamCall | None = None
        self.meter = AnswerMeter(services.key_guard)
        self._error_answer: ErrorAnswer  # while collecting
        self.buffer = CommitBuffer()
        self._announced_bytes: int | None = None
        self._ending: Callable[[], None] | None = None

    # -- the door's side ---------------------------------------------------------------------------------------

    def begin(self, request: UpstreamRequest, listener: UpstreamListener | None = None) -> None:
        """Send the call upstream; `listener` gets the answer first and hands it on."""
        self.record.bytes_in = len(request.body)
        self._services.ledger.admit(self.record)
        self._services.observer.overhead_measured(self._services.clock.monotonic() - self._started)
        self._call = self.buffer.call = self._services.upstream.open(request, listener or self)

    def reject(self, error: ApiError) -> None:
        """Answer with an error of ours instead of calling upstream."""
        if self.phase is Phase.WAITING:  # else it has ended meanwhile
            self._refuse(error, Outcome.REJECTED)

    def leave(self) -> None:
        """The client has left: upstream is closed at once, or read on for as long as the client's policy says."""
        call, answering = self._call, self.phase is Phase.PASSING
        stream, wait = self.record.stream, 0.0
        if answering or (self.phase is Phase.WAITING and call is not None and call.sent):
            wait = self._policy.wait_seconds(stream=stream, answering=answering, last_chunk=self._last_chunk)
        if not wait:
            self.end_by(Ending.CLIENT_LEFT)
            return
        self._closes_at_head = not answering and self._policy.closes_at_head(stream=stream)
        self._downstream = NULL_DOWNSTREAM
        self.buffer.resume()
        self._patience = asyncio.get_running_loop().call_later(wait, self.end_by, Ending.CLIENT_LEFT)

    def end_by(self, ending: Ending, last_event: bytes = b"") -> None:
        """End the exchange before upstream does.

        A client without an answer gets an error. A running answer is broken off, or ends properly with `last_event`.
        A stopping server leaves a call to the door whose request is still being read.
        """
        phase, reading, call = self.phase, self.meter.reading, self._call
        settled = phase in (Phase.COMMITTING, Phase.SETTLED)
        at_the_door = ending is Ending.SERVER_STOPPED and call is None and not self.asking
        if phase is Phase.OVER or at_the_door or (settled and ending.spares_the_settled):
            return
        if call is not None:
            call.cancel()
        if not settled:
            self.record.error_type = reading.error_code or ending.error_type
            self.record.error_detail = ending.detail
        if ending.is_silent:
            if not settled:
                self._settle(outcome_of(reading, ending.outcome))
            self._over(NULL_DOWNSTREAM.abort)
        elif settled:
            self._break_off()
        elif phase is Phase.PASSING:
            if last_event:
                self.record.bytes_out += len(last_event)
                self.buffer.add(last_event)
            self._ending = self._downstream.finish if last_event else self._downstream.abort
            self._settle(Outcome.INCOMPLETE if last_event else outcome_of(reading, ending.outcome))
        elif (refusal := ending.refusal()) is not None:
            self._refuse(refusal, ending.outcome)

    # -- the wire's side ---------------------------------------------------------------------------------------

    def head(self, status: int, headers: Headers, retry_count: int) -> None:
        """Decide by the status: pass the answer, collect an error, or refuse."""
        record = self.record
        record.retry_count = retry_count
        record.time_to_first_byte_ms = self._elapsed_ms()
        headers, values = crossing(headers, self._services, record)
        if status == 401 or self._services.key_health.unsure:
            self._services.key_health.note(status)
        if 200 <= status < 300:
            self._pass_on(status, headers, values)
        elif (refusal := refusal_of(status)) is not None:
            self._refuse(refusal, Outcome.UPSTREAM_ERROR)
        else:
            self.phase = Phase.COLLECTING  # judged as a whole
            self._error_answer = self.meter.watch = ErrorAnswer(status, headers)

    def data(self, chunk: bytes) -> None:
        """Pass a chunk on, or buffer it while the record is committed."""
        phase = self.phase
        screened = self.meter.watch.screen(chunk)
        if not screened:
            if screened is None:
                self._forbid()
            return
        chunk = screened
        if phase is Phase.PASSING:
            record = self.record
            record.bytes_out += len(chunk)
            if self.meter.feed(chunk):
                self.buffer.add(chunk)
                self._settle(outcome_of(self.meter.reading, Outcome.COMPLETED))
            elif record.bytes_out == self._announced_bytes:  # any client sees this end, whatever the meter does
                self.buffer.add(chunk)
                self._settle_at_end()
            else:
                self._last_chunk = chunk
                if record.background:
                    note_response(record, self.meter.reading, self._services.ledger)
                self._downstream.body(chunk)
        elif phase is Phase.SETTLED:
            self._downstream.body(chunk)
        elif phase is Phase.COMMITTING:
            self.buffer.add(chunk)

    def end(self) -> None:
        """Upstream's answer is whole."""
        if self.meter.watch.held:  # it was not the upstream key
            self.data(self.meter.watch.release())
        phase = self.phase
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
        """Upstream broke off: before the head the client gets an error of ours, after it our side breaks off too."""
        phase = self.phase
        if phase is Phase.PASSING:
            self._ending = self._downstream.abort
            self.record.error_type = self.meter.reading.error_code or fault.error_type
            self.record.error_detail = fault.detail
            self._settle(outcome_of(self.meter.reading, outcome_of_fault(fault, answering=True)))
        elif phase in (Phase.COMMITTING, Phase.SETTLED):
            self._break_off()
        elif phase in (Phase.WAITING, Phase.COLLECTING):
            self.record.retry_count = retry_count
            self._refuse(fault, outcome_of_fault(fault, answering=False))

    # -- answering ---------------------------------------------------------------------------------------------

    def _pass_on(self, status: int, headers: Headers, values: Values) -> None:
        record = self.record
        record.http_status = status
        self.phase = Phase.PASSING
        self.meter.expect(record.stream, values)
        if self._closes_at_head:
            self.end_by(Ending.CLIENT_LEFT)
            return
        self._announced_bytes = announced_length(values.get(b"content-length"))
        if self.reservation is not None:
            add_limit_headers(headers, values, self.reservation.grant.readings)
        add_stream_defaults(headers, values, asked_for=record.stream)
        self._downstream.start(status, headers)

    def _refuse(self, error: ApiError, outcome: Outcome) -> None:
        self._services.observer.refused(error.error_type)
        self.record.http_status = error.status
        self.record.error_type = self.record.error_type or error.error_type
        self.record.error_detail = self.record.error_detail or error.detail
        self._ending = partial(self._downstream.refuse, error)
        if self._call is not None:
            self._call.cancel()
        self._settle(outcome)

    def _refuse_error_answer(self) -> None:
        """Pass upstream's error on verbatim, or replace what must not pass."""
        answer = self._error_answer
        if (replacement := answer.judge(self._services.key_guard)) is not None:
            self._refuse(replacement, Outcome.UPSTREAM_ERROR)
        else:
            answer.describe(self.record)
            self._ending = partial(answer.send, self._downstream)
            self._settle(Outcome.UPSTREAM_ERROR)

    def _forbid(self) -> None:
        """Stop what must not pass: an error answer that is too large to be judged, or the upstream key."""
        if self.phase is Phase.COLLECTING:
            self._refuse_error_answer()
        else:
            _log.critical("upstream's answer to %s holds the upstream key: broken off", self.record.request_id)
            self.buffer.release()
            self.end_by(Ending.UPSTREAM_KEY_SEEN)

    # -- settling ----------------------------------------------------------------------------------------------

    def _settle_at_end(self) -> None:
        self.meter.end()
        self._settle(outcome_of(self.meter.reading, self.meter.outcome_at_end))

    def _settle(self, outcome: Outcome) -> None:
        """Close the record and commit it. The buffer is sent when the record is durable."""
        self.phase = Phase.COMMITTING
        if self._downstream is NULL_DOWNSTREAM:
            outcome = outcome_unseen(outcome)
        sent = self.meter.reading.usage is not None or (self._call is not None and self._call.sent)
        close_record(self.record, outcome, self._elapsed_ms(), self.meter, self._services, sent=sent)
        if self.reservation is not None:
            self.reservation.settle(self.record, self.meter, self._services.prices, sent=sent)
        self._on_over(self)
        self._services.ledger.settle(self.record, self._durable)

    def _durable(self) -> None:
        if self.phase is not Phase.COMMITTING:
            return  # the client left meanwhile
        self.phase = Phase.SETTLED
        if self.buffer.size:
            self._downstream.body(self.buffer.release())
        if self._ending is not None:
            self._over(self._ending)

    def _break_off(self) -> None:
        """Break our side off once the record is durable."""
        self._ending = self._downstream.abort
        if self.phase is Phase.SETTLED:
            self._over(self._ending)

    def _over(self, ending: Callable[[], None]) -> None:
        """Drop the references to both sides: they refer to the exchange, and all are freed without a collection."""
        self.phase = Phase.OVER
        ending()
        if self._patience is not None:
            self._patience.cancel()
        self._call = self.buffer.call = self._ending = None
        self._downstream = NULL_DOWNSTREAM

    def _elapsed_ms(self) -> float:
        return round((self._services.clock.monotonic() - self._started) * 1000, 3)
