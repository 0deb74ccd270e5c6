"""A connection to PostgreSQL with a deadline for answers, whatever happens to the server."""

import time
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen

from app.store.postgres.address import PostgresAddress

SESSION = """
SELECT set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                                                             ELSE current_setting('synchronous_commit') END, false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('lock_timeout', '500ms', false),
       set_config('statement_timeout', '60s', false),
       set_config('idle_in_transaction_session_timeout', '10s', false),
       set_config('tcp_keepalives_idle', '15', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('jit', 'off', false)
"""
"""The first statement of each session. A commit survives a power cut. A process that hangs within a transaction, or
whose machine is gone, keeps its locks for seconds, not for hours."""

SETUP_SECONDS = 5.0

_T = TypeVar("_T")


class Trouble(Exception):
    """The database did not do what it was asked. One line, without values of rows."""


def words_of(error: Exception) -> str:
    """The first line of what the driver says: the others may repeat a row."""
    line = str(error).strip().partition("\n")[0].strip()
    return f"PostgreSQL: {line or type(error).__name__}"


class PostgresConnection(psycopg.Connection[tuple[Any, ...]]):
    """In autocommit mode: transactions are begun by hand. For one thread at a time."""

    _until: float | None = None
    out_of_time = False

    @classmethod
    def to(cls, address: PostgresAddress) -> Self:
        """Connect. Takes up to `connect_timeout` a host. Raises psycopg.Error."""
        connection = cls.connect(**address.parameters(), autocommit=True)
        try:
            connection.allow(SETUP_SECONDS)
            connection.execute(SESSION)
        except BaseException:
            connection.close()
            raise
        return connection

    def allow(self, seconds: float) -> None:
        """Set the deadline for all answers. A late answer raises OperationalError and closes the connection."""
        self._until = time.monotonic() + seconds

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        """The driver's own, which has no deadline."""
        if timeout is None and self._until is not None:
            timeout = max(0.0, self._until - time.monotonic())
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError:
            if self._until is None or time.monotonic() < self._until:
                raise
            self.out_of_time = True
            self.close()  # an answer that comes now would be taken for that to the next question
            raise psycopg.OperationalError("no answer in time") from None
