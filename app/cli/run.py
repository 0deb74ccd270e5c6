"""`weighbridge run`: runs a command with this gateway's address and a key of its own."""

import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import ConfigOption, checked_client

if TYPE_CHECKING:
    from app.cli.child_process import ChildProcess
    from app.cli.run_key import RunKey

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The exit codes that shells use."""


def run(
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND", help="The command and its arguments, as in: weighbridge run -- codex"),
    ],
    client: Annotated[
        str,
        typer.Option(
            metavar="CLIENT", help="The client that the calls count for; created if it is new.", callback=checked_client
        ),
    ] = "default",
    config: ConfigOption = None,
) -> None:
    """Run a command that uses this gateway.

    The command gets the address and a key in its environment. The key is revoked when the command ends. No file is
    changed.
    """
    from app.cli.child_process import ChildProcess, end_as
    from app.cli.run_key import RunKey, Watcher

    path = shutil.which(command[0])
    if path is None:
        print(f"weighbridge: the command {command[0]!r} was not found: check its name and PATH", file=sys.stderr)
        raise typer.Exit(NOT_FOUND)
    child = ChildProcess()
    key = RunKey.make(client, config)
    watcher = Watcher(key.revoke)
    try:
        status = _started(child, path, command, key)
    finally:
        key.revoke()
        watcher.dismiss()
    raise typer.Exit(end_as(status))


def _started(child: "ChildProcess", path: str, command: list[str], key: "RunKey") -> int:
    """Run the command and return its wait status."""
    from app.cli.command_environment import pointed, with_provider
    from app.cli.config import load_or_exit

    secrets = load_or_exit(key.config).secret_variables
    environ = pointed(os.environ, key.address.local_base_url, key.text, secrets)
    words = with_provider(command, key.address, os.environ, catalog=key.models)
    try:
        return child.run(path, words, environ)
    except OSError as error:
        print(f"weighbridge: {path} cannot be started: {error.strerror}", file=sys.stderr)
        raise typer.Exit(NOT_EXECUTABLE) from None
