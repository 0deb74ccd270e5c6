"""`weighbridge connect`: prints the lines that point a client program at this gateway."""

import re
import sys
from getpass import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import ConfigOption, JsonOption
from app.cli.output import print_json
from app.cli.snippets import Program, SnippetValues, blocks

if TYPE_CHECKING:
    from app.cli.server_address import ServerAddress

KEY_PLACEHOLDER = "sk-wb-..."
_MODEL = re.compile(r"[A-Za-z0-9][\w.:/@+-]{0,255}", re.ASCII)


def _checked_key(value: str | None) -> str | None:
    if value not in {None, "-"}:
        raise typer.BadParameter("write `--key -` and give the key on standard input: other users can see arguments")
    return value


def _checked_model(value: str | None) -> str | None:
    if value is not None and not _MODEL.fullmatch(value):
        raise typer.BadParameter("this is not a model name")
    return value


def connect(
    program: Annotated[
        Program,
        typer.Argument(metavar="PROGRAM", help=f"The client program: {', '.join(Program)}. `env` is any other one."),
    ],
    key: Annotated[
        str | None,
        typer.Option(metavar="-", help="Read a client key from standard input and put it in.", callback=_checked_key),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The model that is written into the example.", callback=_checked_model),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print the configuration that makes a client program use this gateway."""
    from app.cli.server_address import locate

    shown_key = KEY_PLACEHOLDER if key is None else _read_key()
    address = locate(config)
    target = SnippetValues(address.base_url, shown_key, model or address.model)
    pasted = blocks(program, target)
    if as_json:
        shown = [{"where": block.where, "language": block.language, "text": block.text} for block in pasted]
        print_json({"program": program.value, "base_url": target.base_url, "model": target.model, "blocks": shown})
    else:
        print("\n".join(block.shown for block in pasted), end="")
    _advise(address, placeholder=key is None)


def _read_key() -> str:
    """A client key from the terminal or a pipe, checked for typing errors. Exits 2 if it is not a key."""
    from app.domain.identity.keys import KeyFault, parse

    text = (getpass("Key of a client: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    fault = parse(text)
    if isinstance(fault, KeyFault):
        said = (
            "is mistyped or cut"
            if fault is KeyFault.MISTYPED
            else "is not a client key. A client key begins with sk-wb-"
        )
        raise typer.BadParameter(f"the text on standard input {said}", param_hint="--key")
    return text


def _advise(address: "ServerAddress", *, placeholder: bool) -> None:
    if placeholder:
        typer.echo(
            f"Replace {KEY_PLACEHOLDER} with a client's key. `weighbridge keys create NAME` makes one.", err=True
        )
    if address.others:
        said = f"This is the address for programs on this machine. Others reach it at {' or '.join(address.others)}"
        typer.echo(f"{said}; set WEIGHBRIDGE_PUBLIC_URL to print that address.", err=True)
    if not address.running:
        typer.echo("No server is running. This address is the one in the settings.", err=True)
