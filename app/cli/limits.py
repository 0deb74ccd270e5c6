"""`weighbridge limits`: calls of unknown cost, and the budget that they hold."""

from typing import Annotated, Any

import typer

from app.cli.admin_client import ask
from app.cli.options import ConfigOption, JsonOption, checked_client
from app.cli.output import print_json, print_table, whole_seconds

app = typer.Typer(name="limits", help="List and settle calls whose cost is not known yet.", no_args_is_help=True)

_COLUMNS = ("started_at", "client", "model", "outcome", "error_type", "held_tokens", "held_usd", "request_id")
_NUMBERS = frozenset(("held_tokens", "held_usd"))


def _checked_if_given(name: str | None) -> str | None:
    return None if name is None else checked_client(name)


@app.command()
def unsettled(
    client: Annotated[
        str | None, typer.Argument(metavar="CLIENT", help="Only calls of this client.", callback=_checked_if_given)
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List calls whose cost is not known, and how much of the budgets they hold.

    Upstream got the whole request, but the answer did not come or broke off. Such a call counts with the most that it
    may have cost, until upstream's records or `weighbridge limits settle` tell its cost.
    """
    calls = ask("GET", "/limits/unsettled", config, params={} if client is None else {"client": client})["calls"]
    if as_json:
        print_json(calls)
        return
    if not calls:
        typer.echo("There are no unsettled calls.", err=True)
        return
    print_table(_COLUMNS, [[whole_seconds(call[name]) for name in _COLUMNS] for call in calls], numbers=_NUMBERS)


@app.command()
def settle(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="The id of the call, as `limits unsettled` shows it.")
    ],
    usd: Annotated[str, typer.Option(metavar="AMOUNT", help="What the call cost, in US dollars; 0 for nothing.")],
    input_tokens: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Its input tokens, if you know them.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Its output tokens, if you know them.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Set the cost of a call whose cost is not known. Token counts that are not given do not change."""
    settlement: dict[str, Any] = {"request_id": request_id, "usd": _dollars(usd)}
    tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    settlement |= {name: count for name, count in tokens.items() if count is not None}
    record = ask("POST", "/limits/settle", config, json=settlement)
    if as_json:
        print_json(record)
    else:
        print(f"{request_id} of {record['client']} now counts as ${record['cost_usd']}.")


def _dollars(text: str) -> str:
    from app.domain.money.amounts import parse_usd

    if parse_usd(text.removeprefix("$")) is None:
        raise typer.BadParameter(f"{text[:40]!r} is not an amount of US dollars", param_hint="--usd")
    return text
