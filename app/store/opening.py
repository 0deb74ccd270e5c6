"""Opens the store: SQLite in the state directory, or PostgreSQL when there is a URL. Only this module knows both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

from app.store.faults import StoreFault
from app.store.options import StoreOptions
from app.store.sqlite import schema
from app.store.sqlite.store import SqliteStore, upgrade_store
from app.store.store import Store


@asynccontextmanager
async def opened_store(
    database_url: str | None, state_dir: Path, **options: Unpack[StoreOptions]
) -> AsyncIterator[Store]:
    """The store, closed at the end of the block. Raises StoreFault or OSError (see the forms)."""
    store: Store
    if database_url is None:
        store = await SqliteStore.open(state_dir, **options)
    else:
        require_postgres()
        from app.store.postgres.store import PostgresStore

        store = await PostgresStore.open(database_url, state_dir, **options)
    try:
        yield store
    finally:
        await store.close()


async def upgraded(database_url: str | None, state_dir: Path) -> bool:
    """Make the database if need be and bring its schema up to date. True if that took anything. Raises StoreFault."""
    if database_url is None:
        return await upgrade_store(state_dir)
    require_postgres()
    from app.store.postgres.address import PostgresAddress
    from app.store.postgres.store import reach

    return await reach(PostgresAddress(database_url))


def revision_of(database_url: str | None, path: Path) -> str | None:
    """The revision of the schema; None when there is none. Raises StoreFault."""
    if database_url is None:
        return schema.current_revision(path)
    require_postgres()
    from app.store.postgres.address import PostgresAddress
    from app.store.postgres.schema import current_revision

    return current_revision(PostgresAddress(database_url))


async def inspected(database_url: str | None, state_dir: Path, path: Path) -> list[str]:
    """What is wrong with the database and the spool, one sentence each. Raises StoreFault."""
    if database_url is None:
        from app.store.sqlite.inspection import inspect

        return await inspect(state_dir, path)
    require_postgres()
    from app.store.postgres.address import PostgresAddress
    from app.store.postgres.inspection import inspect as inspect_postgres

    return await inspect_postgres(PostgresAddress(database_url), state_dir)


async def moved(state_dir: Path, database_url: str) -> dict[str, int]:
    """Copy an SQLite installation to PostgreSQL; gives the rows by table. Raises StoreFault."""
    require_postgres()
    from app.store.postgres.address import PostgresAddress
    from app.store.postgres.transfer import transfer

    return await transfer(state_dir, PostgresAddress(database_url))


def require_postgres() -> None:
    """Raises StoreFault when the driver is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise StoreFault(
            "a database URL is set, and the driver for PostgreSQL is not installed: pip install 'psycopg[binary]'"
        ) from error
