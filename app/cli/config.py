"""`weighbridge config`: show the settings and where each came from, check them, or print an example file."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from app.settings import Settings
    from app.settings.provenance import Provenance
    from app.settings.servers import RunningServer

app = typer.Typer(name="config", help="Show or check the settings, or print an example file.", no_args_is_help=True)


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every setting, its value and where the value comes from. Secrets are masked."""
    from app.settings.provenance import provenances

    rows = list(provenances(load_or_exit(config)))
    if as_json:
        print(json.dumps([{"setting": row.setting, "value": row.value, "from": row.origin} for row in rows], indent=2))
    else:
        print("\n".join(_lines(rows)))


@app.command()
def check(config: ConfigOption = None) -> None:
    """Check the settings that `serve` would start with: print "ok", or every fault at once and exit with code 2."""
    settings = load_or_exit(config, running=False)
    print("ok")
    if settings.upstream.key is None:
        print(
            "There is no upstream key: `serve` needs one, or --demo. Set OPENROUTER_API_KEY, for example.",
            file=sys.stderr,
        )


@app.command()
def example(_config: ConfigOption = None) -> None:
    """Print a settings file (TOML) that has every setting, its meaning and its default."""
    from app.settings.example import example_toml

    print(example_toml(), end="")


def load_or_exit(config: Path | None, *, running: bool = True) -> "Settings":
    """The settings as load() returns them. Exits 2 with every fault on stderr if there are any."""
    from app.settings import SettingsError

    try:
        return load(config, running=running)
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None


def load(config: Path | None, *, running: bool = True) -> "Settings":
    """Load the settings. The upstream key may be absent. Raises SettingsError.

    If neither --config nor the environment sets anything, the running server's settings are used. Exits 2 if several
    servers run. With `running=False` the result is what the next start would use.
    """
    from app.settings import load_settings

    server = _running_server() if running and config is None else None
    return load_settings(config, need_upstream_key=False, server=server)


def _running_server() -> "RunningServer | None":
    """The server that runs here, or None. Exits 2 with a list if there are several."""
    from app.settings.servers import running_servers

    servers = running_servers(os.environ)
    if len(servers) > 1:
        print("Several servers run here. Choose one with --config FILE or in the environment:", file=sys.stderr)
        for server in servers:
            print(f"  {server.url}  {server.named}", file=sys.stderr)
        raise typer.Exit(2)
    return servers[0] if servers else None


def _lines(rows: "list[Provenance]") -> list[str]:
    """Columns divided by spaces, so that other programs can search and cut the output."""
    shown = [(row.setting, _text(row.value), row.origin) for row in rows]
    name_width, value_width = (max(len(cells[column]) for cells in shown) for column in (0, 1))
    return [f"{name:<{name_width}}  {value:<{value_width}}  {origin}" for name, value, origin in shown]


def _text(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
