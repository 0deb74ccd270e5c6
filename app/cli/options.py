"""Options and arguments that several commands have, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer


def checked_name(name: str) -> str:
    """The name of a client or group. Raises typer.BadParameter when there can be none of that name."""
    from app.domain.keys import check_client_name

    try:
        check_client_name(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return name


def _checked_group(name: str) -> str:
    if name == "none":
        raise typer.BadParameter("'none' cannot name a group: `clients set --group none` leaves one")
    return checked_name(name)


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The TOML file to read.")]
ClientName = Annotated[str, typer.Argument(metavar="CLIENT", callback=checked_name)]
GroupName = Annotated[str, typer.Argument(metavar="GROUP", callback=_checked_group)]
