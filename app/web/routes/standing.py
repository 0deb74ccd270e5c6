"""Limits and budgets as JSON: money in dollars as decimal text, times in RFC 3339."""

from collections.abc import Sequence
from typing import Any

from app.domain.money.amounts import format_usd
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.record_json import rfc3339
from app.gateway.limiter import BudgetReading, RateReading


def limits_shown(limits: Limits) -> dict[str, Any]:
    """The limits. Null means unlimited."""
    return {
        "rpm": limits.rpm,
        "tpm": limits.tpm,
        "concurrency": limits.concurrency,
        "budgets": [_budget(budget) for budget in limits.budgets],
    }


def budgets_shown(readings: Sequence[BudgetReading]) -> list[dict[str, Any]]:
    """Budgets: what was spent, what running calls have reserved, what is left, and when the window ends."""
    return [
        {
            **_budget(reading.budget),
            "spent": _amount(reading.spent, reading.budget.unit),
            "reserved": _amount(reading.reserved, reading.budget.unit),
            "left": _amount(reading.left, reading.budget.unit),
            "resets_at": None if reading.resets_at is None else rfc3339(reading.resets_at),
        }
        for reading in readings
    ]


def rates_shown(readings: Sequence[RateReading]) -> list[dict[str, Any]]:
    """Rates a minute, and what was taken of them."""
    return [
        {
            "kind": reading.kind.value,
            "limit": reading.limit,
            "remaining": reading.remaining,
            "reset_seconds": round(reading.reset_ns / 1e9, 3),
        }
        for reading in readings
    ]


def _budget(budget: Budget) -> dict[str, Any]:
    return {"unit": budget.unit.value, "period": budget.period.value, "amount": _amount(budget.amount, budget.unit)}


def _amount(amount: int, unit: Unit) -> str | int:
    return format_usd(amount) if unit is Unit.USD else amount
