"""A ledger that several processes share: a folder of files to which each appends what its calls came to."""

import os
from collections.abc import Sequence
from pathlib import Path

from app.gateway.admission.spending import LedgerSpending, Spent


class Books(LedgerSpending):
    """Tokens and nano-dollars are the same number here. All of it is today's, and of one client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = os.open(folder / f"{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, amount: int) -> None:
        os.write(self._file, f"{amount}\n".encode())

    def total(self) -> int:
        return sum(int(line) for path in self._folder.iterdir() for line in path.read_bytes().split())

    async def since(self, begins_at: int, clients: Sequence[str]) -> Spent:
        total = self.total()
        return Spent(total, total)
