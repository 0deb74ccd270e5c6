"""Connects in a thread of its own, so that the writer never waits for a server that does not answer."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet

from app.store.postgres.connection import PostgresConnection, Trouble

_GLANCE_SECONDS = 0.05
"""Enough for a server that is near and well."""


class Connector:
    """One attempt at a time."""

    def __init__(self, connect: Callable[[], PostgresConnection]) -> None:
        self._connect = connect
        self._attempt: Future[PostgresConnection] | None = None
        self._closed = False

    def take(self) -> PostgresConnection:
        """A fresh connection. Raises what the attempt has raised, or Trouble while it is under way."""
        if self._attempt is None:
            self._attempt = Future()
            threading.Thread(target=self._try, args=(self._attempt,), name="ledger-connector", daemon=True).start()
        try:
            connection = self._attempt.result(timeout=_GLANCE_SECONDS)
        except NotYet:
            raise Trouble("PostgreSQL: the server does not answer") from None
        except BaseException:
            self._attempt = None
            raise
        self._attempt = None
        return connection

    def close(self) -> None:
        """A connection that comes later is closed at once."""
        self._closed = True
        attempt, self._attempt = self._attempt, None
        if attempt is not None and attempt.done() and attempt.exception() is None:
            attempt.result().close()

    def _try(self, attempt: "Future[PostgresConnection]") -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - take() raises it
            attempt.set_exception(error)
            return
        attempt.set_result(connection)
        if self._closed:
            connection.close()
