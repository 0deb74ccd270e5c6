"""The limits of a client or a group: rates, concurrency and budgets."""

from dataclasses import dataclass

from app.domain.money.budgets import Budget, Unit


@dataclass(slots=True, frozen=True)
class Limits:
    """None is unlimited. There is at most one budget for each unit and period.

    `rpm` and `tpm` are requests and tokens (input and output together) a minute, `concurrency` is calls at once.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budgets: tuple[Budget, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is a limit."""
        return self != NO_LIMITS

    def has_budget(self, unit: Unit) -> bool:
        """Whether there is a budget in this unit."""
        return any(budget.unit is unit for budget in self.budgets)

    def has_account_of(self, budget: Budget) -> bool:
        """Whether there is a budget of the same unit and period, which shares its account."""
        return any(own.unit is budget.unit and own.period is budget.period for own in self.budgets)

    def with_budgets(self, *changes: Budget) -> tuple[Budget, ...]:
        """The budgets, with these in place of those of the same unit and period."""
        kept = {(budget.unit, budget.period): budget for budget in (*self.budgets, *changes)}
        return tuple(kept.values())


NO_LIMITS = Limits()
