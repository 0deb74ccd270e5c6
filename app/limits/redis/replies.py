"""Converts the scripts' replies to the port's classes."""

from collections.abc import Iterator, Sequence

from app.domain.money.windows import window_of
from app.gateway.limiter import BudgetReading, Holder, HolderReading, Limit, LimitRefusal, LimitRequest, RateReading

GRANTED, REFUSED, UNKNOWN, SHUT = range(4)
_LIMITS = (Limit.REQUESTS, Limit.TOKENS, Limit.CONCURRENCY, Limit.BUDGET)
_MILLISECOND_NS = 1_000_000


def readings(holders: Sequence[Holder], numbers: Sequence[int]) -> list[RateReading]:
    """The rates of these holders. `numbers` has two for each rate: units used, and milliseconds until the reset."""
    found = []
    at = 0
    for holder in holders:
        for kind, limit in ((Limit.REQUESTS, holder.limits.rpm), (Limit.TOKENS, holder.limits.tpm)):
            if limit is not None:
                remaining = max(0, limit - numbers[at])
                found.append(RateReading(kind, limit, remaining, numbers[at + 1] * _MILLISECOND_NS))
                at += 2
    return found


def refusal(ask: LimitRequest, reply: Sequence[int]) -> LimitRefusal:
    """The limit that is in the way."""
    _, what, place, wait_ms, number, spent, reserved, beyond, *rates = reply
    holder = ask.holders[place]
    found = None
    if _LIMITS[what] is Limit.BUDGET:
        budget = holder.limits.budgets[number]
        found = BudgetReading(budget, spent, reserved, beyond, window_of(budget.period, ask.at_us).ends_at)
    return LimitRefusal(_LIMITS[what], holder, wait_ms * _MILLISECOND_NS, readings(ask.holders, rates), found)


def holder_reading(holder: Holder, reply: Sequence[int]) -> HolderReading:
    """The reply of look.lua for a holder."""
    rates = 2 * ((holder.limits.rpm is not None) + (holder.limits.tpm is not None))
    return HolderReading(reply[1], readings((holder,), reply[2:]), [*_budgets(holder, reply[2 + rates :])])


def _budgets(holder: Holder, numbers: Sequence[int]) -> Iterator[BudgetReading]:
    for place, budget in enumerate(holder.limits.budgets):
        spent, reserved, beyond, begins_at = numbers[4 * place : 4 * place + 4]
        yield BudgetReading(budget, spent, reserved, beyond, window_of(budget.period, begins_at).ends_at)
