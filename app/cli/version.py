"""`weighbridge version`."""

import json
from typing import Annotated

import typer


def version(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the version."""
    from app import __version__

    print(json.dumps({"version": __version__}) if as_json else __version__)
