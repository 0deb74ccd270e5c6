"""Settlement: writes the outcome, usage and cost of an exchange into its record, once, on every exit."""

from app.domain.answer.extras import NO_EXTRAS, Extras
from app.domain.answer.meter import AnswerReading
from app.domain.answer.usage import Usage
from app.domain.error_detail import short_detail
from app.domain.errors import ApiError, Draining, UpstreamTimedOut
from app.domain.money.amounts import MAX_USD, NANOUSD_PER_USD
from app.domain.money.charge import charge
from app.domain.money.estimate import estimate, may_be_billed
from app.domain.money.pricing import Price
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.gateway.exchange.answer_meter import AnswerMeter
from app.gateway.ports import Ledger, PriceBook, UpstreamUsage
from app.gateway.services import Services

LARGEST_COST = MAX_USD * NANOUSD_PER_USD
"""The most that one call may cost, reported or priced."""

_OUTCOME_OF_STATUS = {
    "completed": Outcome.COMPLETED,
    "incomplete": Outcome.INCOMPLETE,
    "cancelled": Outcome.INCOMPLETE,
    "failed": Outcome.FAILED,
}

_ODD = (Outcome.TRUNCATED, Outcome.FAILED)
_ANSWERED = (Outcome.COMPLETED, Outcome.INCOMPLETE, Outcome.FAILED, Outcome.INTERRUPTED)


def outcome_of(reading: AnswerReading, otherwise: Outcome) -> Outcome:
    """The terminal event decides, then an error in the stream, then `otherwise`."""
    if reading.status is not None:
        return _OUTCOME_OF_STATUS.get(reading.status, Outcome.COMPLETED)
    return Outcome.FAILED if reading.failed else otherwise


def outcome_of_fault(fault: ApiError, *, answering: bool) -> Outcome:
    """The outcome of an exchange that a fault ended."""
    if isinstance(fault, Draining):
        return Outcome.INTERRUPTED
    if isinstance(fault, UpstreamTimedOut):
        return Outcome.TIMEOUT
    return Outcome.TRUNCATED if answering else Outcome.UPSTREAM_ERROR


def outcome_unseen(outcome: Outcome) -> Outcome:
    """The outcome of an answer whose client left before its end."""
    return outcome if outcome in _ANSWERED else Outcome.CLIENT_CLOSED


def note_response(record: Record, reading: AnswerReading, ledger: Ledger) -> None:
    """Note the response id of an open background call in the ledger, once: after a crash, upstream is asked by it."""
    if record.response_id is None and reading.response_id is not None:
        record.response_id = reading.response_id
        ledger.note(record)


def close_record(  # noqa: PLR0913 - all that is known at the end
    record: Record, outcome: Outcome, duration_ms: float, meter: AnswerMeter, services: Services, *, sent: bool
) -> None:
    """Complete the record of an exchange: how and when it ended, and what was read of its answer.

    `sent` says whether upstream got the whole request; if not, nothing can be billed.
    """
    record.outcome = outcome
    record.duration_ms = duration_ms
    record.finished_at = record.started_at + int(duration_ms * 1000)
    _write_reading(record, meter.reading, services, sent=sent)
    if record.error_type is None and outcome is Outcome.FAILED:
        record.error_type = "upstream_error"
    if record.error_type is not None or record.error_detail is not None or outcome is Outcome.TRUNCATED:
        _explain(record, meter)
    if meter.failed:
        services.observer.meter_failed()
    services.key_guard.keep_out(record)


def _explain(record: Record, meter: AnswerMeter) -> None:
    """Write into the record why the call failed: upstream's message first, then ours."""
    reading = meter.reading
    why = reading.error_message or record.error_detail
    if why is None and reading.status is None and not reading.failed and record.outcome in _ODD:
        why = meter.trouble
    record.error_detail = None if why is None else short_detail(why)


def settle_by_upstream(record: Record, usage: Usage, entry: UpstreamUsage, prices: PriceBook) -> None:
    """Replace an unknown or estimated usage in a record by the one from upstream's usage records."""
    record.model_served = record.model_served or entry.model
    write_usage(record, usage, UsageSource.SETTLED, prices, entry.extras)


def _write_reading(record: Record, reading: AnswerReading, services: Services, *, sent: bool) -> None:
    """Write what was read of the answer into the record; without a usage, an estimate if the settings ask for one."""
    record.response_id = reading.response_id
    record.model_served = reading.model
    record.background = record.background or reading.still_running
    if record.error_type is None:
        record.error_type = reading.error_code
    if reading.usage is not None:
        write_usage(record, reading.usage, UsageSource.REPORTED, services.prices, reading.extras)
        return
    output_bytes = reading.output_bytes if record.stream else record.bytes_out
    stopped_by_us = record.outcome is Outcome.INCOMPLETE and reading.status is None
    if services.estimates and sent and not reading.no_answer and (stopped_by_us or may_be_billed(record)):
        usage = estimate(record.bytes_in, output_bytes, (record.duration_ms or 0) / 1000)
        write_usage(record, _bounded(record, usage, services.prices), UsageSource.ESTIMATED, services.prices)


def _bounded(record: Record, usage: Usage, prices: PriceBook) -> Usage:
    """An estimate, bounded by the model's context and the call's own output limit."""
    context = None
    for model in (record.model_served, record.model_requested):
        if model is not None and context is None:
            context = prices.context_tokens(model)
    into, out = usage.input_tokens or 0, usage.output_tokens or 0
    if context is not None:
        into, out = min(into, context), min(out, context)
    if record.max_output_tokens is not None:
        out = min(out, record.max_output_tokens)
    return Usage(input_tokens=into, output_tokens=out, total_tokens=into + out)


def write_usage(
    record: Record, usage: Usage, source: UsageSource, prices: PriceBook, extras: Extras = NO_EXTRAS
) -> None:
    """Write tokens and cost into a record. The cost is the reported one, else priced, else unknown."""
    record.usage_source = source
    record.input_tokens = usage.input_tokens
    record.cached_input_tokens = usage.cached_input_tokens
    record.cache_write_tokens = usage.cache_write_tokens
    record.output_tokens = usage.output_tokens
    record.reasoning_tokens = usage.reasoning_tokens
    record.total_tokens = usage.total_tokens
    record.cost_nanousd = record.cost_source = record.price = record.cost_detail = None
    if usage.reported_cost_nanousd is not None:
        record.cost_nanousd = usage.reported_cost_nanousd
        record.cost_source = CostSource.REPORTED
        return
    model = record.model_served or record.model_requested
    price = None if model is None else prices.price(model)
    if price is not None:
        _charge(record, usage, source, price, extras)
        return
    asked = record.model_requested
    if asked is not None and asked != model and (price := prices.price(asked)) is not None:
        _charge(record, usage, source, price, extras, f"no price is known for {model}: priced as {asked}")
    elif model is not None:
        record.cost_detail = f"no price is known for {model}"


def _charge(  # noqa: PLR0913, PLR0917 - what a cost is made of
    record: Record, usage: Usage, source: UsageSource, price: Price, extras: Extras, doubt: str | None = None
) -> None:
    charged = charge(usage, extras, price, record.service_tier)
    if charged is None:
        return
    missing = charged.missing if doubt is None else [doubt, *charged.missing]
    record.cost_nanousd = min(charged.cost_nanousd, LARGEST_COST)  # absurd counts must not overflow sums
    record.cost_source = CostSource.ESTIMATED if missing or source is UsageSource.ESTIMATED else CostSource.PRICED
    record.price = charged.price.as_json()
    if missing:
        record.cost_detail = "; ".join(missing)
