"""`weighbridge prices`: shows the price book."""

from typing import Annotated, Any

import typer

from app.cli.admin_client import ask
from app.cli.options import ConfigOption, JsonOption
from app.cli.output import print_json, print_table

ModelArgument = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="The name of a model, as upstream calls it.")
]

_COLUMNS = ("model", "input", "cached_input", "output", "service_tiers", "source", "date")
_NUMBERS = frozenset(("input", "cached_input", "output"))
_PER_MILLION = ("input", "cached_input", "cache_write", "output", "image_input", "image_output")
_PER_CALL = ("per_request", "web_search", "file_search")


def prices(model: ModelArgument = None, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show model prices in US dollars: of one model, or of all that the settings and upstream list."""
    found = ask("GET", "/prices", config, params={} if model is None else {"model": model})
    if as_json:
        print_json(found if model is None else found["prices"][0])
    elif model is None:
        _print_all(found)
    else:
        _print_one(found["prices"][0])


def _print_all(found: dict[str, Any]) -> None:
    rows = [[_cell(price, name) for name in _COLUMNS] for price in found["prices"]]
    print_table(_COLUMNS, rows, numbers=_NUMBERS)
    learned = found["learned"]
    if learned["problem"] is not None:
        typer.echo(f"Upstream has not told its prices lately: {learned['problem']}.", err=True)
    typer.echo(
        "US dollars per million tokens. `weighbridge prices MODEL` shows one model, also if it is not listed here.",
        err=True,
    )


def _print_one(price: dict[str, Any]) -> None:
    rows = [
        ["model", price["model"]],
        ["source", price["source"]],
        ["date", price["date"]],
        ["context tokens", price["context_tokens"]],
    ]
    rows += _amounts(price, "")
    for tier in price.get("tiers", ()):
        rows += _amounts(tier, f"above {tier['above']:,} input tokens: ")
    for name, tier in price.get("service_tiers", {}).items():
        rows += _amounts(tier, f"service tier {name}: ")
        for above in tier.get("tiers", ()):
            rows += _amounts(above, f"service tier {name}, above {above['above']:,} input tokens: ")
    print_table(("price", "value"), rows)


def _amounts(price: dict[str, Any], where: str) -> list[list[object]]:
    rates = [[f"{where}{_plain(name)}, USD a million tokens", price[name]] for name in _PER_MILLION if name in price]
    return rates + [[f"{where}{_plain(name)}, USD a call", price[name]] for name in _PER_CALL if name in price]


def _plain(name: str) -> str:
    return "request" if name == "per_request" else name.replace("_", " ")


def _cell(price: dict[str, Any], name: str) -> object:
    return ", ".join(price.get(name, {})) or None if name == "service_tiers" else price.get(name)
