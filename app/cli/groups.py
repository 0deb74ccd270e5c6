"""`weighbridge groups`: clients that share limits."""

from typing import Any

import typer

from app.cli import terms
from app.cli.admin_client import ask, part
from app.cli.options import ConfigOption, GroupName, JsonOption
from app.cli.output import print_json, print_table

app = typer.Typer(name="groups", help="Limits that clients share: set, list and show.", no_args_is_help=True)


@app.command("list")
def list_groups(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show all groups."""
    groups = ask("GET", "/groups", config)["groups"]
    if as_json:
        print_json(groups)
        return
    rows = [[g["name"], len(g["members"]), g["rpm"], g["tpm"], g["concurrency"], _budgets(g)] for g in groups]
    columns = ("group", "members", "rpm", "tpm", "concurrency", "budgets")
    print_table(columns, rows, numbers=frozenset(columns[1:5]))
    if not groups:
        typer.echo("There are none yet: `weighbridge groups set GROUP` makes one.", err=True)


@app.command()
def show(group: GroupName, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one group and how its budgets stand."""
    found = ask("GET", f"/groups/{part(group)}", config)
    if as_json:
        print_json(found)
        return
    print_table(("agreed", "value"), terms.limit_rows(found))
    if rows := terms.budget_rows({"group": found["standing"]}):
        print()
        print_table(terms.BUDGET_COLUMNS, rows)


@app.command("set")
def set_group(
    group: GroupName,
    rpm: terms.RateOption = None,
    tpm: terms.TokensOption = None,
    concurrency: terms.SlotsOption = None,
    budget_usd: terms.DollarsOption = None,
    budget_tokens: terms.CountsOption = None,
    models: terms.ModelsOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Change what is agreed with a group; make it if it is new. `clients set --group` puts clients in."""
    change = terms.limits_change(rpm, tpm, concurrency, budget_usd, budget_tokens, models)
    changed = ask("PATCH", f"/groups/{part(group)}", config, makes=True, json=change)
    if as_json:
        print_json(changed)
    else:
        print_table(("agreed", "value"), terms.limit_rows(changed))


def _budgets(group: dict[str, Any]) -> str | None:
    return ", ".join(f"{b['amount']} {b['unit']}/{b['period']}" for b in group["budgets"]) or None
