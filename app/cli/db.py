"""`weighbridge db`: upgrade, copy, check or move the database."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption
from app.cli.output import print_json, print_table

app = typer.Typer(name="db", help="Upgrade, back up, check or move the database.", no_args_is_help=True)


@app.command()
def upgrade(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Upgrade the schema to this version. A server does this when it starts. With SQLite, stop the server first."""
    import asyncio

    from app.store.opening import upgraded
    from app.store.schema.revisions import HEAD

    url, state_dir, _ = _places(config, makes=True)
    with _faults_reported():
        changed = asyncio.run(upgraded(url, state_dir))
    if as_json:
        print_json({"revision": HEAD, "changed": changed})
    else:
        print(HEAD)
        typer.echo("The schema was brought up to date." if changed else "The schema is up to date.", err=True)


@app.command()
def current(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the revision of the database schema."""
    from app.store.opening import revision_of
    from app.store.schema.revisions import HEAD, remedy

    url, _, path = _places(config)
    with _faults_reported():
        revision = revision_of(url, path)
    if as_json:
        print_json({"revision": revision, "newest": HEAD})
        return
    print(revision or "-")
    if revision != HEAD:
        typer.echo(f"This version of Weighbridge has {HEAD}: {remedy(revision)}.", err=True)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the copy. The file must not exist.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the database to FILE. The server may keep running."""
    from app.store.spool.spool import spool_contents
    from app.store.sqlite.backup import back_up

    url, state_dir, path = _places(config)
    if url is not None:
        print("weighbridge: the database is on PostgreSQL. Copy it with pg_dump", file=sys.stderr)
        raise typer.Exit(2)
    with _faults_reported():
        size = back_up(path, file)
        waiting = spool_contents(state_dir).waiting_bytes
    if waiting:
        typer.echo(f"{waiting} bytes of records wait in the spool and are not in the copy.", err=True)
    if as_json:
        print_json({"file": str(file), "bytes": size, "spooled_bytes": waiting})
    else:
        print(file)


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the database file and its sums: print "ok", or what is wrong and exit with code 1."""
    import asyncio

    from app.store.opening import inspected

    url, state_dir, path = _places(config)
    with _faults_reported():
        findings = asyncio.run(inspected(url, state_dir, path))
    if as_json:
        print_json({"ok": not findings, "findings": findings})
    else:
        print("\n".join(findings) or "ok")
    if findings:
        raise typer.Exit(1)


@app.command("migrate-to")
def migrate_to(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The address, postgresql://...; `-` reads it from standard input.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy everything from SQLite to an empty PostgreSQL database. Stop the server first."""
    import asyncio

    from app.store.opening import moved

    to = sys.stdin.readline().strip() if url == "-" else url
    if not to.startswith(("postgresql://", "postgres://")):
        raise typer.BadParameter("must start with postgresql://", param_hint="URL")
    given, state_dir, _ = _places(config)
    if given is not None:
        print("weighbridge: the database is on PostgreSQL already. Unset the database URL to move one", file=sys.stderr)
        raise typer.Exit(2)
    with _faults_reported():
        copied = asyncio.run(moved(state_dir, to))
    if as_json:
        print_json(copied)
    else:
        print_table(("table", "rows"), list(copied.items()), numbers=frozenset({"rows"}))
    typer.echo("Everything was copied. Set WEIGHBRIDGE_DATABASE_URL and start the server.", err=True)


def _places(config: Path | None, *, makes: bool = False) -> tuple[str | None, Path, Path]:
    """The database URL or None, the state directory, and the database file of SQLite.

    Exits 1 if the file does not exist, unless the command `makes` it.
    """
    from app.cli.admin_client import no_ledger
    from app.cli.config import load_or_exit
    from app.private_files import check_own
    from app.store.sqlite.store import DATABASE_NAME

    settings = load_or_exit(config)
    check_own(settings.storage.state_dir / DATABASE_NAME)
    if not makes and (problem := no_ledger(settings)) is not None:
        print(f"weighbridge: {problem}", file=sys.stderr)
        raise typer.Exit(1)
    storage = settings.storage
    url = None if storage.database_url is None else storage.database_url.reveal()
    return url, storage.state_dir, storage.state_dir / DATABASE_NAME


@contextmanager
def _faults_reported() -> Iterator[None]:
    from app.store.faults import StoreFault

    try:
        yield
    except StoreFault as fault:
        problem = str(fault)
    except OSError as error:
        problem = str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
    else:
        return
    print(f"weighbridge: {problem}", file=sys.stderr)
    raise typer.Exit(1)
