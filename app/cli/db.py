"""`weighbridge db`: the database file itself. Its schema, copies of it, and whether it is whole."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import JsonOption, print_json

app = typer.Typer(name="db", help="Upgrade, copy or check the database.", no_args_is_help=True)

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The TOML file to read.")]


@app.command()
def upgrade(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the schema up to date; a server does the same when it starts. No server may be running."""
    import asyncio

    from app.store.schema import HEAD
    from app.store.sqlite import upgrade_store

    state_dir, _ = _places(config)
    with _faults_told():
        changed = asyncio.run(upgrade_store(state_dir))
    if as_json:
        print_json({"revision": HEAD, "changed": changed})
    else:
        print(HEAD)
        typer.echo("The schema was brought up to date." if changed else "The schema was up to date.", err=True)


@app.command()
def current(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the revision of the database's schema."""
    from app.store.schema import HEAD, current_revision

    _, path = _places(config)
    with _faults_told():
        revision = current_revision(path)
    if as_json:
        print_json({"revision": revision, "newest": HEAD})
        return
    print(revision or "-")
    if revision != HEAD:
        typer.echo(f"This version of Weighbridge has {HEAD}; the next start of the server brings it there.", err=True)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; it must not exist.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the database as it stands now to FILE. The server may go on running."""
    from app.store.backup import back_up
    from app.store.spool import spool_contents

    state_dir, path = _places(config)
    with _faults_told():
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
    """Say whether the database is whole and its sums are right: "ok", or what is wrong and exit code 1."""
    import asyncio

    from app.store.inspection import inspect

    state_dir, path = _places(config)
    with _faults_told():
        findings = asyncio.run(inspect(state_dir, path))
    if as_json:
        print_json({"ok": not findings, "findings": findings})
    else:
        print("\n".join(findings) or "ok")
    if findings:
        raise typer.Exit(1)


def _places(config: Path | None) -> tuple[Path, Path]:
    """The state directory and the database file."""
    from app.cli.config import load_or_exit
    from app.store.sqlite import DATABASE_NAME

    state_dir = load_or_exit(config).storage.state_dir
    return state_dir, state_dir / DATABASE_NAME


@contextmanager
def _faults_told() -> Iterator[None]:
    from app.store.faults import StoreFault

    try:
        yield
    except (StoreFault, OSError) as error:
        print(f"weighbridge: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
