"""Checks of the database and of Redis."""

from collections.abc import Iterator
from typing import Any

from app.cli.doctor.finding import Finding, fail, ok, warn
from app.cli.doctor.server import Server
from app.limits.opening import redis_fault
from app.settings.model import StorageSettings
from app.store.faults import StoreFault
from app.store.opening import revision_of
from app.store.schema.revisions import HEAD, remedy
from app.store.sqlite.store import DATABASE_NAME


def check_database(storage: StorageSettings, server: Server | None) -> Iterator[Finding]:
    """Whether the database exists and is up to date, and the running server writes to it."""
    url = None if storage.database_url is None else storage.database_url.reveal()
    kind = "SQLite" if url is None else "PostgreSQL"
    path = storage.state_dir / DATABASE_NAME
    if server is not None:
        yield _part(
            "database", kind, server.parts.get("storage", {}), "see the server's log, and `weighbridge db check`"
        )
        return
    try:
        revision = revision_of(url, path)
    except StoreFault as fault:
        yield fail("database", str(fault), "see `weighbridge db check`")
        return
    if revision is None:
        yield ok("database", f"{kind}: it does not exist yet; the first start makes it")
    elif revision != HEAD:
        yield warn("database", f"{kind} has the schema {revision}, this version {HEAD}", remedy(revision))
    else:
        yield ok("database", kind)


def check_redis(storage: StorageSettings, server: Server | None) -> Iterator[Finding]:
    """Whether Redis answers, if it is set."""
    todo = "check that Redis runs and WEIGHBRIDGE_REDIS_URL is right"
    if server is not None and "limits" in server.parts:
        yield _part("redis", "the server reaches it", server.parts["limits"], todo)
    elif storage.redis_url is None or server is not None:
        yield ok("redis", "not used: limits are counted in the server's process")
    elif fault := redis_fault(storage.redis_url.reveal()):
        yield fail("redis", fault, todo)
    else:
        yield ok("redis", "it answers")


def _part(check: str, good: str, part: dict[str, Any], todo: str) -> Finding:
    """A part of /readyz as a finding."""
    if part.get("ok", False):
        return ok(check, good)
    problem = str(part.get("problem") or "the server gives no details")
    return fail(check, problem, todo) if part.get("state") == "red" else warn(check, problem, todo)
