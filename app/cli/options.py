"""Options and arguments that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def checked_client(name: str) -> str:
    """Return the name if it is valid for a client. Raises typer.BadParameter."""
    from app.domain.identity.keys import check_client_name

    return _checked(name, check_client_name)


def _checked_group(name: str) -> str:
    from app.domain.identity.keys import check_group_name

    return _checked(name, check_group_name)


def _checked(name: str, check: Callable[[str], None]) -> str:
    try:
        check(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return name


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
# Every command takes it, also the few that need no settings: what is written in front of all of them must fail in none.
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The TOML file with the settings.")]
LetRunOption = Annotated[bool, typer.Option("--let-run", help="Let running calls finish. Without it they are ended.")]
ClientName = Annotated[
    str, typer.Argument(metavar="CLIENT", help="Its name, as `clients list` shows it.", callback=checked_client)
]
GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="The name of the group.", callback=_checked_group)]
