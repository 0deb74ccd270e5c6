"""The revisions of the schema: the newest, what is not known, and how Alembic finds the migrations."""

from pathlib import Path
from typing import TYPE_CHECKING

from app.store.faults import SchemaTooNew

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0007"
"""The newest revision in migrations/versions (a test compares them)."""

MIGRATIONS = Path(__file__).parents[1] / "migrations"


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
