"""The schema of the database: which revision it is at, and how it gets to ours.

A new database is made of app.store.tables at once, one of an older version by its migrations; a test holds the two
together. Alembic costs a start 0.25 s and 11 MB, for as long as the server runs: only who upgrades pays for it.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from app.store.faults import SchemaTooNew, StoreDamaged, StoreFault

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0007"
"""The newest revision in migrations/versions (a test compares them)."""

MIGRATIONS = Path(__file__).parent / "migrations"


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
    """Bring the database to HEAD, in one transaction: killed in the midst of it, nothing has changed.

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

    from app.store.tables import metadata, progress

    revision = sa.Column("version_num", sa.String(32), nullable=False)
    revisions = sa.Table(
        "alembic_version", sa.MetaData(), revision, sa.PrimaryKeyConstraint(revision, name="alembic_version_pkc")
    )
    made: list[sa.ClauseElement] = []
    for table in (*metadata.sorted_tables, revisions):
        made += [sa.schema.CreateTable(table), *map(sa.schema.CreateIndex, table.indexes)]
    made += [sa.insert(progress).values(kept_since=0, folded_until=0), sa.insert(revisions).values(version_num=HEAD)]
    return (str(one.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})) for one in made)


def remedy(revision: str | None) -> str:
    """What to do about a database that is not at HEAD. Revisions are numbers with leading zeros, in order."""
    newer = revision is not None and revision > HEAD
    return "a newer Weighbridge has written it" if newer else "`weighbridge db upgrade` brings it up to date"


def refuse_unknown(revision: str | None, config: "Config", name: str) -> None:
    """Raise SchemaTooNew for a database of a revision that is not among ours."""
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNew(
            f"{name} has schema {revision}, which this version does not know (it knows {HEAD}): "
            "a newer Weighbridge has written it"
        )


def alembic_config() -> "Config":
    """Alembic's configuration, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


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
