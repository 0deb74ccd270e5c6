"""Limits: how fast, how many at once, and how much; of a client, or of a group of clients together."""

from dataclasses import dataclass

from app.domain.money.budgets import Budget, Unit


@dataclass(slots=True, frozen=True)
class Limits:
    """None is unlimited; of budgets there is at most one for a unit and period.

    `rpm` and `tpm` are requests and tokens (input and output together) a minute, `concurrency` is calls at once.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budgets: tuple[Budget, ...] = ()

    @property
    def any(self) -> bool:
        """Is there one?"""
        return self != NO_LIMITS

    def has_budget(self, unit: Unit) -> bool:
        """Is there a budget in this unit?"""
        return any(budget.unit is unit for budget in self.budgets)

    def has_account_of(self, budget: Budget) -> bool:
        """Is there a budget of the same unit and period? It has the same account."""
        return any(own.unit is budget.unit and own.period is budget.period for own in self.budgets)

    def with_budgets(self, *changes: Budget) -> tuple[Budget, ...]:
        """The budgets with these put in place of those for the same unit and period."""
        kept = {(budget.unit, budget.period): budget for budget in (*self.budgets, *changes)}
        return tuple(kept.values())


NO_LIMITS = Limits()
