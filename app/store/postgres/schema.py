"""The schema in PostgreSQL: the same revisions, brought there by one process at a time."""

import psycopg

from app.store.faults import StoreFault
from app.store.postgres.address import PostgresAddress
from app.store.postgres.connection import PostgresConnection, words_of
from app.store.schema.revisions import HEAD, alembic_config, refuse_unknown

_TABLE = "SELECT to_regclass('alembic_version') IS NOT NULL"
_MIGRATE_ALONE = "SELECT pg_advisory_xact_lock(1466059880, 2)"
_REVISION = "SELECT version_num FROM alembic_version"


class NotReached(StoreFault):
    """The server does not answer. It may be starting."""


def current_revision(address: PostgresAddress) -> str | None:
    """The revision of the database; None when it is empty. Raises StoreFault."""
    try:
        with PostgresConnection.to(address) as connection:
            return _revision(connection)
    except psycopg.OperationalError as error:
        kind = StoreFault if "FATAL" in str(error) and "starting up" not in str(error) else NotReached
        raise kind(f"{address} cannot be reached. {words_of(error)}") from error
    except psycopg.Error as error:
        raise StoreFault(f"{address}: {words_of(error)}") from error


def upgrade(address: PostgresAddress) -> bool:
    """Bring the database to HEAD, in one transaction. True when there was anything to do.

    Processes that start together do this one after the other. Raises StoreFault, among them SchemaTooNew.
    """
    if current_revision(address) == HEAD:
        return False
    import sqlalchemy as sa
    from alembic import command

    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: _patient(address), poolclass=sa.NullPool)
    config = alembic_config()
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(_MIGRATE_ALONE)
            connected = connection.connection.driver_connection
            assert isinstance(connected, psycopg.Connection)  # noqa: S101 - for the type checker
            revision = _revision(connected)
            if revision == HEAD:
                return False
            refuse_unknown(revision, config, str(address))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sa.exc.DBAPIError as error:
        raise StoreFault(f"{address} could not be brought to schema {HEAD}: {words_of(error.orig)}") from error  # type: ignore[arg-type]
    except psycopg.Error as error:
        raise StoreFault(f"{address} could not be brought to schema {HEAD}: {words_of(error)}") from error
    finally:
        engine.dispose()
    return True


def _patient(address: PostgresAddress) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection without any limits of time: a table may be large, and another process may be at it."""
    connection = psycopg.connect(**address.parameters())
    connection.execute("SELECT set_config('lock_timeout', '0', false), set_config('statement_timeout', '0', false)")
    encoding = connection.execute("SELECT current_setting('server_encoding')").fetchone()
    connection.commit()
    if encoding != ("UTF8",):
        connection.close()
        raise StoreFault(f"the database {address} must have the encoding UTF8")
    return connection


def _revision(connection: "psycopg.Connection[tuple[object, ...]]") -> str | None:
    exists = connection.execute(_TABLE).fetchone()
    if exists is None or not exists[0]:
        return None
    row = connection.execute(_REVISION).fetchone()
    return None if row is None else str(row[0])
