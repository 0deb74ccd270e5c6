"""A reservation: what was granted to one exchange, and what becomes of it when that ends.

Until then the record of a budgeted call knows its worst case, and so does its open row in the ledger: a call that was
open when the process died counts in full, until upstream's books say better.
"""

from app.domain.estimate import BYTES_PER_TOKEN, estimate, may_be_billed
from app.domain.meter import Reading
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.domain.usage import Usage
from app.domain.worst_case import WorstCase
from app.gateway.limits import Grant
from app.gateway.ports import PriceBook
from app.gateway.roster import HeldTerms
from app.gateway.settlement import write_usage

_WHOLE = (Outcome.COMPLETED, Outcome.INCOMPLETE)
_ENDED = (Outcome.COMPLETED, Outcome.INCOMPLETE, Outcome.FAILED)


class Reservation:
    """Of one exchange. `stop_at_tokens` is where a stream is broken off; None: nowhere."""

    __slots__ = ("_budgeted", "_worst", "grant", "stop_at_tokens")

    def __init__(self, grant: Grant, worst: WorstCase, terms: HeldTerms) -> None:
        self.grant = grant
        self.stop_at_tokens = _affordable(grant, worst) if terms.hard_stop else None
        self._worst = worst
        self._budgeted = terms.budgeted

    def exceeded_by(self, reading: Reading) -> bool:
        """Has a stream come to its ceiling, by what its deltas hold?"""
        return self.stop_at_tokens is not None and reading.output_bytes > self.stop_at_tokens * BYTES_PER_TOKEN

    def settle(self, record: Record, reading: Reading, prices: PriceBook) -> None:
        """The record is closed: tell the limiter what the call came to.

        Where no usage came, what may have been billed is estimated, at no more than the worst case; in the background,
        where what has been seen says nothing of what follows, at all of it. Of half a usage, the other half is. For a
        budget, the record says so, too.
        """
        tokens = (record.input_tokens or 0) + (record.output_tokens or 0)
        told = record.usage_source is UsageSource.REPORTED
        if not told or record.input_tokens is None or record.output_tokens is None:
            output_bytes = reading.output_bytes if record.stream else record.bytes_out
            if not output_bytes and record.outcome in _WHOLE:  # nothing could be read of it, or it came in one event
                output_bytes = record.bytes_out
            if told or may_be_billed(record) or (record.outcome in _ENDED and output_bytes):
                guess = self._guess(record, output_bytes)
                guess = _completed(record, guess) if told else guess
                tokens = guess.total_tokens or 0
                if self._budgeted:
                    write_usage(record, guess, UsageSource.ESTIMATED, prices)
        record.worst_case = None
        self.grant.settle(tokens, record.cost_nanousd or 0)

    def _guess(self, record: Record, output_bytes: int) -> Usage:
        into, out = self._worst.input_tokens, self._worst.output_tokens
        if not record.background or record.outcome is Outcome.FAILED:
            guess = estimate(record.bytes_in, output_bytes, (record.duration_ms or 0) / 1000)
            into, out = min(guess.input_tokens or 0, into), min(guess.output_tokens or 0, out)
        return Usage(input_tokens=into, output_tokens=out, total_tokens=into + out)


def _completed(record: Record, guess: Usage) -> Usage:
    """What upstream has told of the usage, and the guess for the rest: half a usage is not for free either."""
    into = guess.input_tokens if record.input_tokens is None else record.input_tokens
    out = guess.output_tokens if record.output_tokens is None else record.output_tokens
    cost = record.cost_nanousd if record.cost_source is CostSource.REPORTED else None
    return Usage(into, output_tokens=out, total_tokens=(into or 0) + (out or 0), reported_cost_nanousd=cost)


def _affordable(grant: Grant, worst: WorstCase) -> int:
    """The output tokens that what was set aside pays for."""
    tokens = max(0, min(worst.output_tokens, grant.tokens - worst.input_tokens))
    cost = worst.cost_nanousd
    if cost and grant.cost_nanousd < cost:
        tokens = min(tokens, worst.output_tokens * grant.cost_nanousd // cost)
    return tokens
