"""`weighbridge clients`: who calls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import JsonOption, print_json, print_table, whole_seconds
from app.cli.terms import (
    BUDGET_COLUMNS,
    NOTHING,
    CountsOption,
    DollarsOption,
    ModelsOption,
    RateOption,
    SlotsOption,
    TokensOption,
    budget_rows,
    count,
    limit_rows,
    limits_change,
    on_off,
)

if TYPE_CHECKING:
    from app.upstream.http_client import HttpClient

app = typer.Typer(name="clients", help="List clients, show them, and set what they may use.", no_args_is_help=True)

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The TOML file to read.")]


@app.command("list")
def list_clients(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show all clients."""
    clients = ask("GET", "/clients", config)["clients"]
    if as_json:
        print_json(clients)
    else:
        rows = [[c["name"], _state(c), c["active_keys"], c["group"], c["created_at"][:19] + "Z"] for c in clients]
        columns = ("client", "state", "active_keys", "group", "created_at")
        print_table(columns, rows, numbers=frozenset(("active_keys",)))


@app.command()
def show(
    client: Annotated[str, typer.Argument(metavar="CLIENT")], as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Show one client: what is agreed with it, its keys and what it has used."""
    found = ask("GET", f"/clients/{_path(client)}", config)
    if as_json:
        print_json(found)
        return
    print(f"{found['name']}, since {found['created_at'][:10]}{', disabled' if found['disabled'] else ''}")
    usage = found["usage"] or {}
    print_table(("used", "value"), [[name.replace("_", " "), value] for name, value in usage.items()])
    print()
    if agreed := limit_rows(found):
        print_table(("agreed", "value"), agreed)
        print()
    if budgets := budget_rows(found["standing"]):
        print_table(BUDGET_COLUMNS, budgets)
        print()
    columns = ("key_id", "state", "created_at", "expires_at")
    print_table(columns, [[whole_seconds(key[name]) for name in columns] for key in found["keys"]])


@app.command("set")
def set_client(
    client: Annotated[str, typer.Argument(metavar="CLIENT")],
    rpm: RateOption = None,
    tpm: TokensOption = None,
    concurrency: SlotsOption = None,
    budget_usd: DollarsOption = None,
    budget_tokens: CountsOption = None,
    models: ModelsOption = None,
    on_disconnect: Annotated[
        str | None, typer.Option(metavar="POLICY", help="When the client leaves: cancel, drain or drain:SECONDS.")
    ] = None,
    safety_identifier: Annotated[
        str | None, typer.Option(metavar="on|off", help="Tell upstream a hash of the client's name.")
    ] = None,
    output_ceiling: Annotated[
        str | None, typer.Option(metavar="N", help="Output tokens taken for a call without max_output_tokens, or none.")
    ] = None,
    hard_stop: Annotated[
        str | None, typer.Option(metavar="on|off", help="Break streams off at the ceiling or the budget's end.")
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="GROUP", help="Whose limits hold besides, or none.")] = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Let it call, or refuse its keys.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Change what is agreed with a client. What is not named stays; `none` takes a limit away."""
    change = limits_change(rpm, tpm, concurrency, budget_usd, budget_tokens, models)
    if on_disconnect is not None:
        change["on_disconnect"] = _policy(on_disconnect)
    if safety_identifier is not None:
        change["safety_identifier"] = on_off(safety_identifier, "--safety-identifier")
    if output_ceiling is not None:
        change["output_ceiling"] = count(output_ceiling, "--output-ceiling")
    if hard_stop is not None:
        change["hard_stop"] = on_off(hard_stop, "--hard-stop")
    if group is not None:
        change["group"] = None if group == NOTHING else group
    if enable is not None:
        change["enabled"] = enable
    changed = ask("PATCH", f"/clients/{_path(client)}", config, json=change)
    if as_json:
        print_json(changed)
        return
    print_table(("agreed", "value"), [["state", _state(changed)], *limit_rows(changed)])


def ask(method: str, path: str, config: Path | None, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    """One call of the admin API; its JSON. Exits 1 with a sentence on stderr when it fails."""
    from app.cli.admin_client import call, run_admin

    async def work(client: "HttpClient") -> Any:  # noqa: ANN401
        return await call(client, method, path, **arguments)

    return run_admin(work, config)


def _state(client: dict[str, Any]) -> str:
    return "disabled" if client["disabled"] else "enabled"


def _policy(text: str) -> str:
    from app.domain.leaving import LeavePolicy

    try:
        return str(LeavePolicy.parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--on-disconnect") from None


def _path(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
