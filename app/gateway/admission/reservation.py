"""A reservation: what was granted to one exchange, and how it is settled when the exchange ends.

    usage reported                                    counts as reported
    the request did not go out whole, or upstream
    answered with an error                            nothing counts
    no head, or an unstreamed answer that broke off   unknown: the call is held at its worst case
    a stream that broke off after its head            the output seen, and the input of the worst case

Until the end, the record of a budgeted call has its worst case, and so has its open row in the ledger: a call that was
open when the process died is held, too. Upstream's records or an operator settle it later (app.gateway.unsettled).
"""

from dataclasses import dataclass

from app.domain.answer.meter import AnswerReading
from app.domain.answer.usage import Usage
from app.domain.money.estimate import estimate
from app.domain.money.worst_case import WorstCase, highest_cost
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.gateway.clients.directory import EffectiveTerms
from app.gateway.exchange.answer_meter import AnswerMeter
from app.gateway.exchange.settlement import write_usage
from app.gateway.limiter import Grant
from app.gateway.ports import PriceBook

_WHOLE = (Outcome.COMPLETED, Outcome.INCOMPLETE)
_ENDED = (Outcome.COMPLETED, Outcome.INCOMPLETE, Outcome.FAILED)


@dataclass(slots=True, frozen=True)
class Asked:
    """What the limits were asked for. `several`: more than one model may answer."""

    worst: WorstCase
    terms: EffectiveTerms
    several: bool = False


class Reservation:
    """The reservation of one exchange. `stop_at_tokens` is where its stream is ended, if anywhere."""

    __slots__ = ("_asked", "grant", "stop_at_tokens")

    def __init__(self, grant: Grant, asked: Asked) -> None:
        self.grant = grant
        self.stop_at_tokens = _affordable(grant, asked.worst) if asked.terms.hard_stop else None
        self._asked = asked

    def settle(self, record: Record, meter: AnswerMeter, prices: PriceBook, *, sent: bool) -> None:
        """Tell the limiter what the call came to, and write it into the closed record if there is a budget.

        `sent` says whether upstream got the whole request.
        """
        record.worst_case = None
        reading = meter.reading
        tokens, cost = (record.input_tokens or 0) + (record.output_tokens or 0), record.cost_nanousd or 0
        reported = record.usage_source is UsageSource.REPORTED
        if reading.no_answer:
            sent = False  # nothing was made
        if not reported or record.input_tokens is None or record.output_tokens is None:
            worst = self._asked.worst
            if sent and not reported and _is_unknown(record, meter):
                tokens, cost = worst.tokens, worst.cost_nanousd or 0
                if self._asked.terms.budgeted:
                    record.count_worst_case(worst)
            elif sent and (guess := self._guess(record, reading)) is not None:
                guess = _completed(record, guess) if reported else guess
                tokens = guess.total_tokens or 0
                if self._asked.terms.budgeted:
                    self._write(record, guess, prices)
                    cost = record.cost_nanousd or 0
        self.grant.settle(tokens, cost)

    def _guess(self, record: Record, reading: AnswerReading) -> Usage | None:
        """An estimate for an answer that had begun; None if nothing shows that upstream made anything."""
        output_bytes = reading.output_bytes if record.stream else record.bytes_out
        if not output_bytes and record.outcome in _WHOLE:  # it could not be read, or came in one event
            output_bytes = record.bytes_out
        if not _answered(record) or (record.outcome in _ENDED and not output_bytes):
            return None
        seen = estimate(record.bytes_in, output_bytes, (record.duration_ms or 0) / 1000).output_tokens or 0
        into, out = self._asked.worst.input_tokens, min(seen, self._asked.worst.output_tokens)
        return Usage(input_tokens=into, output_tokens=out, total_tokens=into + out)

    def _write(self, record: Record, guess: Usage, prices: PriceBook) -> None:
        """Write the estimate at the highest rates that may apply, as its reservation was priced."""
        write_usage(record, guess, UsageSource.ESTIMATED, prices)
        most = self._asked.worst.cost_nanousd
        if record.cost_source is not CostSource.ESTIMATED or most is None:
            return
        if record.model_served is None and self._asked.several:
            record.cost_nanousd = most
            return
        for model in (record.model_served, record.model_requested):
            price = prices.price(model) if model else None
            if price is not None:
                price = price.at_service_tier(record.service_tier) or price
                record.cost_nanousd = min(most, highest_cost(price, guess.input_tokens or 0, guess.output_tokens or 0))
                return


def _answered(record: Record) -> bool:
    """Whether upstream has begun to answer, and not with an error."""
    return record.http_status is not None and 200 <= record.http_status < 300


def _is_unknown(record: Record, meter: AnswerMeter) -> bool:
    """Whether nothing is known of a call that went out whole and has no usage."""
    if record.outcome is Outcome.REJECTED:
        return False
    if record.time_to_first_byte_ms is None:
        return True
    if not _answered(record):
        return False
    if record.background:
        return record.outcome is not Outcome.FAILED
    return not meter.streams and meter.reading.status is None and record.outcome not in _ENDED


def _completed(record: Record, guess: Usage) -> Usage:
    """The part of the usage that upstream reported, and the estimate for the rest."""
    into = guess.input_tokens if record.input_tokens is None else record.input_tokens
    out = guess.output_tokens if record.output_tokens is None else record.output_tokens
    cost = record.cost_nanousd if record.cost_source is CostSource.REPORTED else None
    return Usage(into, output_tokens=out, total_tokens=(into or 0) + (out or 0), reported_cost_nanousd=cost)


def _affordable(grant: Grant, worst: WorstCase) -> int:
    """The output tokens that the reservation pays for."""
    tokens = max(0, min(worst.output_tokens, grant.tokens - worst.input_tokens))
    cost = worst.cost_nanousd
    if cost and grant.cost_nanousd < cost:
        tokens = min(tokens, worst.output_tokens * grant.cost_nanousd // cost)
    return tokens
