"""Both sides' books, as they lie on the disk and in the mock's memory, and what a client was told: are they one?"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from app.store.sqlite.inspection import inspect
from app.store.sqlite.store import DATABASE_NAME
from tests.e2e.crowd import Told

Json = dict[str, Any]

TOKENS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_input_tokens": "cached_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "total_tokens": "total_tokens",
}
"""Column of the ledger -> name in the mock's books."""


def rows(state_dir: Path) -> dict[str, Json]:
    """The ledger's rows by request id, as another process reads them."""
    uri = (state_dir / DATABASE_NAME).absolute().as_uri()
    with closing(sqlite3.connect(f"{uri}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute("SELECT * FROM records")]
    return {row["request_id"]: row for row in found}


def findings(state_dir: Path) -> list[str]:
    """What `weighbridge db check` says."""
    return asyncio.run(inspect(state_dir, state_dir / DATABASE_NAME))


def doubled(ledger: Iterable[Json]) -> list[str]:
    """Answers of which there is more than one record."""
    times = Counter(row["response_id"] for row in ledger if row["response_id"] is not None)
    return [response_id for response_id, count in times.items() if count > 1]


def misweighed(told: Iterable[Told], ledger: Iterable[Json]) -> list[str]:
    """Answers that a client saw the end of, and of which the ledger says nothing or something else."""
    by_response = {row["response_id"]: row for row in ledger}
    wrong = []
    for one in told:
        answer = one.terminal
        if answer is not None and _weight(by_response.get(answer["id"])) != _told_weight(answer):
            wrong.append(f"{one.headers.get('x-request-id')}: {answer['id']} {answer['status']}")
    return wrong


def _weight(row: Json | None) -> tuple[object, ...] | None:
    if row is None:
        return None
    return (
        row["outcome"],
        row["input_tokens"],
        row["output_tokens"],
        row["cached_input_tokens"],
        row["reasoning_tokens"],
        row["total_tokens"],
        row["cost_nanousd"],
    )


def _told_weight(answer: Json) -> tuple[object, ...]:
    usage = answer["usage"]
    return (
        answer["status"],
        usage["input_tokens"],
        usage["output_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
        usage["total_tokens"],
        round(usage["cost"] * 10**9),
    )
