"""The schema of the database: which revision it is at, and how it gets to ours.

A new database is made from app.store.schema.tables. An older one is brought up to date by its migrations. A test checks
that both give the same tables. Alembic costs a start 0.25 s and 11 MB, so only an upgrade imports it.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from app.store.faults import StoreDamaged, StoreFault
from app.store.schema.revisions import HEAD, alembic_config, refuse_unknown

if TYPE_CHECKING:
    from alembic.config import Config


def current_revision(path: Path) -> str | None:
    """The revision of the database file; None when it is not there or empty. Only reads. Raises StoreDamaged."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
            if not names:
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreDamaged(f"{path} cannot be read: {error}") from error
    return None if row is None else str(row[0])


def upgrade(path: Path) -> bool:
    """Bring the database to HEAD, in one transaction: a process killed in the middle has changed nothing.

    The caller holds the StoreLock. True when there was anything to do. Raises SchemaTooNew, StoreDamaged, StoreFault.
    """
    revision = current_revision(path)
    if revision == HEAD or (revision is None and _made(path)):
        return revision is None
    from alembic import command

    config = alembic_config()
    refuse_unknown(revision, config, str(path))
    with _writing(path, config):
        command.upgrade(config, "head")
    return True


def _made(path: Path) -> bool:
    """Make all tables, if the database holds nothing yet; False when it does. Raises StoreDamaged or StoreFault."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
                return False
            for statement in _making():
                connection.execute(statement)
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise StoreFault(f"{path} could not be brought to schema {HEAD}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreDamaged(f"{path} cannot be read: {error}") from error
    return True


def _making() -> Iterator[str]:
    """The statements that make a database at HEAD."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import sqlite

    from app.store.schema.tables import metadata, progress

    revision = sa.Column("version_num", sa.String(32), nullable=False)
    revisions = sa.Table(
        "alembic_version", sa.MetaData(), revision, sa.PrimaryKeyConstraint(revision, name="alembic_version_pkc")
    )
    made: list[sa.ClauseElement] = []
    for table in (*metadata.sorted_tables, revisions):
        made += [sa.schema.CreateTable(table), *map(sa.schema.CreateIndex, table.indexes)]
    made += [sa.insert(progress).values(kept_since=0, folded_until=0), sa.insert(revisions).values(version_num=HEAD)]
    return (str(one.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})) for one in made)


@contextlib.contextmanager
def _writing(path: Path, config: "Config") -> Iterator[None]:
    """Give alembic a connection with a transaction begun: for SQLite it would not begin one by itself."""
    import sqlalchemy as sa

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            yield
            connection.commit()
    except sa.exc.DBAPIError as error:
        raise StoreFault(f"{path} could not be brought to schema {HEAD}: {error.orig}") from error
    finally:
        engine.dispose()
