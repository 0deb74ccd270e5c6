"""`weighbridge groups`: clients that share limits."""

from typing import Any

import typer

from app.cli import terms
from app.cli.admin_client import ask, part
from app.cli.options import ConfigOption, GroupName, JsonOption
from app.cli.output import print_json, print_table

app = typer.Typer(name="groups", help="Set, list and show limits that several clients share.", no_args_is_help=True)


@app.command("list")
def list_groups(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List all groups with their limits."""
    groups = ask("GET", "/groups", config)["groups"]
    if as_json:
        print_json(groups)
        return
    rows = [[g["name"], len(g["members"]), g["rpm"], g["tpm"], g["concurrency"], _budgets(g)] for g in groups]
    columns = ("group", "members", "rpm", "tpm", "concurrency", "budgets")
    print_table(columns, rows, numbers=frozenset(columns[1:5]))
    if not groups:
        typer.echo("There are no groups yet. `weighbridge groups set GROUP` creates one.", err=True)


@app.command()
def show(group: GroupName, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one group: its limits, its members and its budgets."""
    found = ask("GET", f"/groups/{part(group)}", config)
    if as_json:
        print_json(found)
        return
    print_table(("setting", "value"), terms.limit_rows(found))
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
    """Change the limits of a group. The group is created if it is new. Options that are not given change nothing.

    `weighbridge clients set CLIENT --group GROUP` puts a client into a group.
    """
    change = terms.limits_change(rpm, tpm, concurrency, budget_usd, budget_tokens, models)
    changed = ask("PATCH", f"/groups/{part(group)}", config, makes=True, json=change)
    if as_json:
        print_json(changed)
    else:
        print_table(("setting", "value"), terms.limit_rows(changed))


def _budgets(group: dict[str, Any]) -> str | None:
    return ", ".join(f"{terms.amount(b)} {b['unit']}/{b['period']}" for b in group["budgets"]) or None
