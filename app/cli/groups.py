"""`weighbridge groups`: clients that share limits."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.cli.clients import ConfigOption, ask
from app.cli.output import JsonOption, print_json, print_table
from app.cli.terms import (
    BUDGET_COLUMNS,
    CountsOption,
    DollarsOption,
    ModelsOption,
    RateOption,
    SlotsOption,
    TokensOption,
    budget_rows,
    limit_rows,
    limits_change,
)

app = typer.Typer(name="groups", help="Limits that clients share: set, list and show.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="GROUP")]


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


@app.command()
def show(group: Name, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one group and how its budgets stand."""
    found = ask("GET", f"/groups/{quote(group, safe='')}", config)
    if as_json:
        print_json(found)
        return
    print_table(("agreed", "value"), limit_rows(found))
    if rows := budget_rows({"group": found["standing"]}):
        print()
        print_table(BUDGET_COLUMNS, rows)


@app.command("set")
def set_group(
    group: Name,
    rpm: RateOption = None,
    tpm: TokensOption = None,
    concurrency: SlotsOption = None,
    budget_usd: DollarsOption = None,
    budget_tokens: CountsOption = None,
    models: ModelsOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Change what is agreed with a group; make it if it is new. `clients set --group` puts clients in."""
    change = limits_change(rpm, tpm, concurrency, budget_usd, budget_tokens, models)
    changed = ask("PATCH", f"/groups/{quote(group, safe='')}", config, json=change)
    if as_json:
        print_json(changed)
    else:
        print_table(("agreed", "value"), limit_rows(changed))


def _budgets(group: dict[str, Any]) -> str | None:
    return ", ".join(f"{b['amount']} {b['unit']}/{b['period']}" for b in group["budgets"]) or None
