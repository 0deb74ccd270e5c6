"""`weighbridge version`."""

import json

from app.cli.options import ConfigOption, JsonOption


def version(as_json: JsonOption = False, _config: ConfigOption = None) -> None:
    """Print the version."""
    from app import __version__

    print(json.dumps({"version": __version__}) if as_json else __version__)
