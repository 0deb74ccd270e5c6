"""Settlement: what an exchange came to, written into its record once, on every exit."""

from app.domain.errors import UpstreamFault, UpstreamTimedOut
from app.domain.meter import Reading
from app.domain.pricing import cost
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.gateway.ports import PriceBook

_OUTCOME_OF_STATUS = {
    "completed": Outcome.COMPLETED,
    "incomplete": Outcome.INCOMPLETE,
    "cancelled": Outcome.INCOMPLETE,
    "failed": Outcome.FAILED,
}


def outcome_of(reading: Reading, otherwise: Outcome) -> Outcome:
    """The terminal event decides; without one an in-band error does; without either it is `otherwise`."""
    if reading.status is not None:
        return _OUTCOME_OF_STATUS.get(reading.status, Outcome.COMPLETED)
    return Outcome.FAILED if reading.failed else otherwise


def outcome_of_fault(fault: UpstreamFault, *, answering: bool) -> Outcome:
    """How an exchange ended that upstream broke off."""
    if isinstance(fault, UpstreamTimedOut):
        return Outcome.TIMEOUT
    return Outcome.TRUNCATED if answering else Outcome.UPSTREAM_ERROR


def write_reading(record: Record, reading: Reading, prices: PriceBook) -> None:
    """Put tokens and cost into the record. What upstream reports wins; else the cost is priced; else it is unknown."""
    record.response_id = reading.response_id
    record.model_served = reading.model
    if record.error_type is None:
        record.error_type = reading.error_code
    usage = reading.usage
    if usage is None:
        return
    record.usage_source = UsageSource.REPORTED
    record.input_tokens = usage.input_tokens
    record.cached_input_tokens = usage.cached_input_tokens
    record.cache_write_tokens = usage.cache_write_tokens
    record.output_tokens = usage.output_tokens
    record.reasoning_tokens = usage.reasoning_tokens
    record.total_tokens = usage.total_tokens
    if usage.reported_cost_nanousd is not None:
        record.cost_nanousd = usage.reported_cost_nanousd
        record.cost_source = CostSource.REPORTED
        return
    for model in (reading.model, record.model_requested):
        price = prices.price(model) if model else None
        if price is not None:
            record.cost_nanousd = cost(usage, price)
            if record.cost_nanousd is not None:
                record.cost_source = CostSource.PRICED
                record.price = price.as_json()
            return
