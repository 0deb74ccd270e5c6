"""Notices within a second that other processes have changed clients or keys.

    connect ──▶ listen ──▶ look ──(told, or a second has passed)──▶ look ──▶ ...
       ▲                     └── not as before: call `changed`
       └──── the connection broke ────┘

PostgreSQL notifies at once. The look every second is for lost notifications: by a pooler, or a broken connection. It
costs the server a sum over three small tables.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from app.store.postgres.address import PostgresAddress
from app.store.postgres.connection import words_of
from app.store.postgres.statements import LISTEN

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 0.8
ANSWER_SECONDS = 5.0
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 1.0

_MARK = """
SELECT (SELECT sum(hashtextextended(keys::text, 0)) FROM keys),
       (SELECT sum(hashtextextended(clients::text, 0)) FROM clients),
       (SELECT sum(hashtextextended(client_groups::text, 0)) FROM client_groups)
"""


class Changes:
    """Listens from start() to close(). `changed` is awaited on the loop; when it raises, it is called again soon."""

    def __init__(self, address: PostgresAddress, changed: Callable[[], Awaitable[None]]) -> None:
        self._address = address
        self._changed = changed
        self._mark: object = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. The first look always calls `changed`."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        delay = FIRST_RETRY_SECONDS
        deaf = False
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    connection = await psycopg.AsyncConnection.connect(**self._address.parameters(), autocommit=True)
                async with connection:
                    delay = FIRST_RETRY_SECONDS
                    if deaf:
                        LOG.info("Changes of clients and keys are heard again")
                    deaf = False
                    await self._listen(connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one may hear again
                if not deaf:
                    LOG.warning("Changes of clients and keys are not heard at the moment: %s", words_of(error))
                deaf = True
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY_SECONDS)

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.execute(LISTEN)
        while True:
            async with asyncio.timeout(ANSWER_SECONDS):
                mark = await (await connection.execute(_MARK)).fetchone()
            if mark != self._mark:
                await self._changed()
                self._mark = mark
            async for _ in connection.notifies(timeout=LOOK_SECONDS, stop_after=1):
                pass
