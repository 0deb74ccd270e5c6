"""`weighbridge clients`."""

from typing import Annotated, Any

import typer

from app.cli import terms
from app.cli.admin_client import ask, part
from app.cli.options import ClientName, ConfigOption, JsonOption, LetRunOption
from app.cli.output import print_json, print_table, whole_seconds

app = typer.Typer(name="clients", help="List, show, limit, disable and delete clients.", no_args_is_help=True)

NO_LIMITS = "none"

_COLUMNS = ("client", "state", "keys", "group", "limits", "month_usd", "total_usd", "since")
_RATES = ("rpm", "tpm", "concurrency")


@app.command("list")
def list_clients(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List all clients with their limits and what they have spent."""
    clients = ask("GET", "/clients", config)["clients"]
    if as_json:
        print_json(clients)
    else:
        print_table(_COLUMNS, list(map(_row, clients)), numbers=frozenset(("keys", "month_usd", "total_usd")))
        if not clients:
            typer.echo("There are no clients yet. `weighbridge keys create CLIENT` creates one, with a key.", err=True)


@app.command()
def show(client: ClientName, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one client: its limits, its budgets, its keys and what it has used."""
    found = ask("GET", f"/clients/{part(client)}", config)
    if as_json:
        print_json(found)
        return
    print(f"{found['name']}, since {found['created_at'][:10]}{', disabled' if found['disabled'] else ''}")
    usage = found["usage"] or {}
    rows = [[name.replace("_", " "), value] for name, value in usage.items()]
    print_table(("used", "value"), rows, numbers=frozenset(("value",)))
    print()
    print_table(("setting", "value"), terms.limit_rows(found) or [["limits", NO_LIMITS]])
    print()
    if budgets := terms.budget_rows(found["standing"]):
        print_table(terms.BUDGET_COLUMNS, budgets)
        print()
    columns = ("key_id", "label", "state", "created_at", "last_used_at", "expires_at")
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
    on_disconnect: terms.LeaveOption = None,
    safety_identifier: terms.SafetyOption = None,
    output_ceiling: terms.CeilingOption = None,
    hard_stop: terms.StopOption = None,
    group: terms.GroupOption = None,
    enable: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Accept or refuse the client's keys.")
    ] = None,
    let_run: LetRunOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Change the limits and settings of a client. Options that are not given change nothing."""
    change = terms.limits_change(rpm, tpm, concurrency, budget_usd, budget_tokens, models)
    change |= terms.client_change(on_disconnect, safety_identifier, output_ceiling, hard_stop, group)
    if enable is not None:
        change["enabled"] = enable
    if let_run and enable is not False:
        raise typer.BadParameter("use it together with --disable", param_hint="--let-run")
    if let_run:
        change["let_run"] = True
    changed = ask("PATCH", f"/clients/{part(client)}", config, json=change)
    if as_json:
        print_json(changed)
        return
    print_table(("setting", "value"), [["state", _state(changed)], *terms.limit_rows(changed)])


@app.command()
def delete(client: ClientName, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Delete a client and revoke its keys. Its records stay, so its name cannot be used again."""
    done = ask("DELETE", f"/clients/{part(client)}", config)
    if as_json:
        print_json(done)
        return
    revoked = len(done["revoked_keys"])
    print(f"Client {client} is deleted; {revoked} {'key' if revoked == 1 else 'keys'} revoked.")
    typer.echo(
        f"Its records stay. `weighbridge clients restore {client}` brings the client back, without its keys.", err=True
    )


@app.command()
def restore(client: ClientName, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Bring back a deleted client with its limits and its spending. Its keys stay revoked."""
    done = ask("POST", f"/clients/{part(client)}/restore", config)
    if as_json:
        print_json(done)
    else:
        print(f"Client {client} is back; `weighbridge keys create {client}` creates a key for it.")


def _row(client: dict[str, Any]) -> list[object]:
    spent = client["spent"]
    agreed = ", ".join(f"{value:,} {name}" if name in _RATES else str(value) for name, value in _limits(client))
    shown = [client["name"], _state(client), client["active_keys"], client["group"], agreed or NO_LIMITS]
    return [*shown, spent["month_usd"], spent["total_usd"], client["created_at"][:10]]


def _limits(client: dict[str, Any]) -> list[tuple[str, object]]:
    """The client's own limits, without those of its group."""
    found: list[tuple[str, object]] = [(name, client[name]) for name in _RATES if client[name] is not None]
    found += [("budget", f"{terms.amount(b)} {b['unit']}/{b['period']}") for b in client["budgets"]]
    if client["models"] is not None:
        found.append(("models", f"models {','.join(client['models'])}"))
    return found


def _state(client: dict[str, Any]) -> str:
    return "disabled" if client["disabled"] else "enabled"
