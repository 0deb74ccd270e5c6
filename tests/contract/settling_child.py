"""A process that settles records until it is killed, and prints each id once its record is durable.

python -m tests.contract.settling_child STATE_DIR SEED [DATABASE_URL]
"""

import asyncio
import os
import sys
from pathlib import Path

from app.domain.records import Outcome
from app.store.opening import opened_store
from tests.store.samples import Samples

AT_ONCE = 24


async def main(state_dir: Path, seed: int, database_url: str | None = None) -> None:
    samples = Samples(seed)
    async with opened_store(database_url, state_dir) as store:

        def begin() -> None:
            record = samples.open()
            store.ledger.admit(record)
            record.outcome = Outcome.COMPLETED
            store.ledger.settle(record, lambda: end(record.request_id))

        def end(request_id: str) -> None:
            os.write(1, f"{request_id}\n".encode())  # one write: a line is whole or not there
            begin()

        for _ in range(AT_ONCE):
            begin()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
