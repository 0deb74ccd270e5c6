"""`weighbridge clients`: who calls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from app.upstream.http_client import HttpClient

app = typer.Typer(name="clients", help="List and show clients.", no_args_is_help=True)

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The TOML file to read.")]


@app.command("list")
def list_clients(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show all clients."""
    clients = _get("/clients", config)["clients"]
    if as_json:
        print_json(clients)
    else:
        rows = [[c["name"], c["active_keys"], c["created_at"][:19] + "Z"] for c in clients]
        print_table(("client", "active_keys", "created_at"), rows, numbers=frozenset(("active_keys",)))


@app.command()
def show(
    client: Annotated[str, typer.Argument(metavar="CLIENT")], as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Show one client: its keys and what it has used."""
    from urllib.parse import quote

    found = _get(f"/clients/{quote(client, safe='')}", config)
    if as_json:
        print_json(found)
        return
    print(f"{found['name']}, since {found['created_at'][:10]}")
    usage = found["usage"] or {}
    print_table(("used", "value"), [[name.replace("_", " "), value] for name, value in usage.items()])
    print()
    columns = ("key_id", "state", "created_at", "expires_at")
    print_table(columns, [[key[name] for name in columns] for key in found["keys"]])


def _get(path: str, config: Path | None) -> Any:  # noqa: ANN401 - JSON
    from app.cli.admin_client import call, run_admin

    async def work(client: "HttpClient") -> Any:  # noqa: ANN401
        return await call(client, "GET", path)

    return run_admin(work, config)
