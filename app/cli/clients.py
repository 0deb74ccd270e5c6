"""`weighbridge clients`: who calls."""

from typing import Annotated, Any

import typer

from app.cli import terms
from app.cli.admin_client import ask, part
from app.cli.options import ClientName, ConfigOption, JsonOption
from app.cli.output import print_json, print_table, whole_seconds

app = typer.Typer(name="clients", help="List clients, show them, and set what they may use.", no_args_is_help=True)

LeaveOption = Annotated[
    str | None,
    typer.Option("--on-disconnect", metavar="POLICY", help="When the client leaves: cancel, drain or drain:SECONDS."),
]
SafetyOption = Annotated[
    str | None, typer.Option("--safety-identifier", metavar="on|off", help="Tell upstream a hash of the client's name.")
]
CeilingOption = Annotated[
    str | None,
    typer.Option(
        "--output-ceiling", metavar="N", help="Output tokens taken for a call without max_output_tokens, or none."
    ),
]
StopOption = Annotated[
    str | None,
    typer.Option("--hard-stop", metavar="on|off", help="Break streams off at the ceiling or the budget's end."),
]
GroupOption = Annotated[
    str | None, typer.Option("--group", metavar="GROUP", help="Whose limits hold besides, or none.")
]


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
        if not rows:
            typer.echo("There are none yet: `weighbridge keys create CLIENT` makes one, with a key.", err=True)


@app.command()
def show(client: ClientName, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one client: what is agreed with it, its keys and what it has used."""
    found = ask("GET", f"/clients/{part(client)}", config)
    if as_json:
        print_json(found)
        return
    print(f"{found['name']}, since {found['created_at'][:10]}{', disabled' if found['disabled'] else ''}")
    usage = found["usage"] or {}
    rows = [[name.replace("_", " "), value] for name, value in usage.items()]
    print_table(("used", "value"), rows, numbers=frozenset(("value",)))
    print()
    if agreed := terms.limit_rows(found):
        print_table(("agreed", "value"), agreed)
        print()
    if budgets := terms.budget_rows(found["standing"]):
        print_table(terms.BUDGET_COLUMNS, budgets)
        print()
    columns = ("key_id", "state", "created_at", "expires_at")
    print_table(columns, [[whole_seconds(key[name]) for name in columns] for key in found["keys"]])


@app.command("set")
def set_client(
    client: ClientName,
    rpm: terms.RateOption = None,
    tpm: terms.TokensOption = None,
    concurrency: terms.SlotsOption = None,
    budget_usd: terms.DollarsOption = None,
    budget_tokens: terms.CountsOption = None,
    models: terms.ModelsOption = None,
    on_disconnect: LeaveOption = None,
    safety_identifier: SafetyOption = None,
    output_ceiling: CeilingOption = None,
    hard_stop: StopOption = None,
    group: GroupOption = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Let it call, or refuse its keys.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Change what is agreed with a client. What is not named stays; `none` takes a limit away."""
    change = terms.limits_change(rpm, tpm, concurrency, budget_usd, budget_tokens, models)
    if on_disconnect is not None:
        change["on_disconnect"] = _policy(on_disconnect)
    if safety_identifier is not None:
        change["safety_identifier"] = terms.on_off(safety_identifier, "--safety-identifier")
    if output_ceiling is not None:
        change["output_ceiling"] = terms.count(output_ceiling, "--output-ceiling")
    if hard_stop is not None:
        change["hard_stop"] = terms.on_off(hard_stop, "--hard-stop")
    if group is not None:
        change["group"] = None if group.lower() == terms.NOTHING else group
    if enable is not None:
        change["enabled"] = enable
    changed = ask("PATCH", f"/clients/{part(client)}", config, json=change)
    if as_json:
        print_json(changed)
        return
    print_table(("agreed", "value"), [["state", _state(changed)], *terms.limit_rows(changed)])


def _state(client: dict[str, Any]) -> str:
    return "disabled" if client["disabled"] else "enabled"


def _policy(text: str) -> str:
    from app.domain.disconnect import DisconnectPolicy

    try:
        return str(DisconnectPolicy.parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--on-disconnect") from None
