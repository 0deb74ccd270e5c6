"""What clients have spent since a moment, by the ledger: budgets start from it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.domain.money.budgets import Unit
from app.domain.records import Book
from app.gateway.ports import Reports
from app.gateway.usage_query import UsageQuery


@dataclass(slots=True, frozen=True)
class Spent:
    """Tokens (input and output together) and nano-dollars, as far as they are known."""

    tokens: int = 0
    cost_nanousd: int = 0

    def of(self, unit: Unit) -> int:
        """The amount in the unit of a budget."""
        return self.cost_nanousd if unit is Unit.USD else self.tokens


class LedgerSpending:
    """Asks one Book of the ledger. `caught_up` waits until the ledger has all that was settled so far."""

    def __init__(
        self, reports: Reports, caught_up: Callable[[], Awaitable[None]] | None = None, *, book: Book = Book.REAL
    ) -> None:
        self._reports = reports
        self._caught_up = caught_up
        self._book = book

    async def since(self, begins_at: int, clients: Sequence[str]) -> Spent:
        """What these clients have spent together on calls begun then (microseconds UTC) or later.

        Raises StorageUnavailable if the ledger does not have all of it yet.
        """
        if self._caught_up is not None:
            await self._caught_up()
        if len(clients) == 1:
            rows = await self._reports.totals(UsageQuery(since=begins_at, client=clients[0], book=self._book))
        else:
            rows = await self._reports.totals(UsageQuery(since=begins_at, by="client", book=self._book))
            rows = [row for row in rows if row["client"] in set(clients)]
        tokens = sum((row["input_tokens"] or 0) + (row["output_tokens"] or 0) for row in rows)
        return Spent(tokens, sum(row["cost_nanousd"] or 0 for row in rows))
