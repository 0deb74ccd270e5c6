"""Error messages for refusals: which limit is in the way, whose it is, and when to come again or what to change."""

from datetime import UTC, datetime

from app.domain.errors import ApiError, QuotaSpent, RateLimited
from app.domain.money.amounts import format_usd
from app.domain.money.budgets import Budget, Unit
from app.gateway.admission.limit_headers import limit_headers, retry_after
from app.gateway.limiter import BudgetReading, Holder, Limit, LimitRefusal, LimitRequest

NOTHING_HELD = (0, 0)


def refusal_error(refusal: LimitRefusal, ask: LimitRequest, held: tuple[int, int] = NOTHING_HELD) -> ApiError:
    """The error for a refusal. Only a spent budget is no reason to try again.

    `held` is how much of the budget unsettled calls hold, and how many calls these are.
    """
    if refusal.budget is not None:
        message = _of_budget(refusal.budget, refusal.holder, ask)
        return QuotaSpent(message + _held(refusal.budget.budget, refusal.holder, *held))
    headers = tuple((name.decode(), value.decode()) for name, value in limit_headers(refusal.readings))
    whose, limits = _whose(refusal.holder), refusal.holder.limits
    if refusal.limit is Limit.CONCURRENCY:
        message = f"{whose} has {limits.concurrency} calls under way, as many as it may have at once."
        slots = ("x-ratelimit-limit-concurrency", str(limits.concurrency)), ("x-ratelimit-remaining-concurrency", "0")
        headers = (*slots, *headers)
    elif refusal.limit is Limit.REQUESTS:
        message = f"{whose} has sent its {limits.rpm} requests of this minute."
    else:
        message = f"{whose} may use {limits.tpm} tokens a minute; this call may take {ask.tokens}, more than is left."
    wait = retry_after(refusal.wait_ns)
    message = f"{message} Please try again in {wait[1]}s."  # Codex waits for what such a sentence says
    return RateLimited(message, headers=(wait, *headers))


def _of_budget(found: BudgetReading, holder: Holder, ask: LimitRequest) -> str:
    budget = found.budget
    what = f"{_whose(holder)}'s budget of {_amount(budget.amount, budget)} {_period(budget)}"
    if found.spent >= budget.amount:
        return f"{what} is spent. {_reset(found)}"
    if found.left == 0:
        held = _amount(min(found.reserved + found.beyond, budget.amount - found.spent), budget)
        return f"{what} has nothing left: calls under way hold {held} of it, and give back what they do not use."
    worst = _amount(ask.cost_nanousd if budget.unit is Unit.USD else ask.tokens, budget)
    left = _amount(found.left, budget)
    return f"{what} has {left} left; this call may come to {worst}. A lower `max_output_tokens` helps. {_reset(found)}"


def _held(budget: Budget, holder: Holder, amount: int, calls: int) -> str:
    if not calls:
        return ""
    which = "1 call" if calls == 1 else f"{calls} calls"
    whom = f" {holder.own_name}" if holder.kind == "client" else ""
    return (
        f" {_amount(amount, budget)} of it is held for {which} whose cost is not known yet: "
        f"`weighbridge limits unsettled{whom}` lists them."
    )


def _whose(holder: Holder) -> str:
    return f"The {holder.kind} {holder.own_name}"


def _amount(amount: int, budget: Budget) -> str:
    return f"${format_usd(amount)}" if budget.unit is Unit.USD else f"{amount} tokens"


def _period(budget: Budget) -> str:
    return "in all" if budget.period == "total" else f"a {budget.period}"


def _reset(found: BudgetReading) -> str:
    if found.resets_at is None:
        return "It does not reset."
    moment = datetime.fromtimestamp(found.resets_at / 1_000_000, UTC)
    return f"It resets at {moment:%Y-%m-%dT%H:%M:%SZ}."
