"""`weighbridge keys`: make, list, revoke and rotate client keys."""

import time
from typing import Annotated, Any

import typer

from app.cli import terms
from app.cli.admin_client import ask, part
from app.cli.options import ConfigOption, JsonOption, LetRunOption, checked_client
from app.cli.output import print_json, print_table, whole_seconds

app = typer.Typer(name="keys", help="Create, list, revoke and rotate keys of clients.", no_args_is_help=True)

_YEAR_SECONDS = 31_536_000


def _checked_key_id(key_id: str) -> str:
    if "/" in key_id or not key_id.strip("."):  # it becomes a part of a path
        raise typer.BadParameter("this is not a key id. `weighbridge keys list` shows key ids")
    return key_id


KeyId = Annotated[
    str, typer.Argument(metavar="KEY_ID", help="The id of the key, as `keys list` shows it.", callback=_checked_key_id)
]


@app.command()
def create(
    client: Annotated[
        str,
        typer.Argument(
            metavar="CLIENT", help="The client that the key is for; created if it is new.", callback=checked_client
        ),
    ],
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN|DATE", help="When the key stops working: after 90d, for example, or on a date (UTC)."
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A note that `keys list` shows beside the key.")
    ] = None,
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
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Create a key for a client and print it. It is shown only once.

    The client is created if it is new. Limits hold for the client: all its keys share them.
    """
    change = terms.limits_change(rpm, tpm, concurrency, budget_usd, budget_tokens, models)
    change |= terms.client_change(on_disconnect, safety_identifier, output_ceiling, hard_stop, group)
    body: dict[str, Any] = {"client": client}
    if expires is not None:
        body["expires_seconds"] = _lifetime(expires)
    if label is not None:
        body["label"] = label
    if change:
        body["terms"] = change
    made = ask("POST", "/keys", config, makes=True, json=body)
    _print_key(made, as_json)


@app.command("list")
def list_keys(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List all keys, the revoked ones too. The keys themselves are not shown."""
    keys = ask("GET", "/keys", config)["keys"]
    if as_json:
        print_json(keys)
        return
    columns = ("key_id", "client", "label", "state", "created_at", "last_used_at", "expires_at", "revoked_at")
    print_table(columns, [[whole_seconds(key[name]) for name in columns] for key in keys])
    if not keys:
        typer.echo("There are no keys yet. `weighbridge keys create CLIENT` creates one.", err=True)


@app.command()
def revoke(
    key_id: KeyId, let_run: LetRunOption = False, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Revoke a key at once, and end the calls that run with it."""
    key = ask("POST", f"/keys/{part(key_id)}/revoke", config, params={"let_run": str(let_run).lower()})
    if as_json:
        print_json(key)
    else:
        print(f"Key {key['key_id']} of {key['client']} is revoked.")


@app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[str, typer.Option(metavar="SPAN", help="How long the old key still works.")] = "24h",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Create a new key that replaces this one. Both work until the grace period ends."""
    rotation = {"grace_seconds": _seconds(grace, "--grace", 0, 10 * _YEAR_SECONDS)}
    made = ask("POST", f"/keys/{part(key_id)}/rotate", config, json=rotation)
    _print_key(made, as_json)
    if not as_json:
        old = made["old_key"]
        typer.echo(f"The old key {old['key_id']} works until {whole_seconds(old['expires_at'])}.", err=True)


def _print_key(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print(made["key"])
    typer.echo(f"Key {made['key_id']} for {made['client']}. It is shown only now. Store it safely.", err=True)


def _lifetime(text: str) -> int:
    """Seconds from now: a span's length, or the time until a date."""
    from app.domain.spans import is_span, parse_moment

    if is_span(text):
        return _seconds(text, "--expires", 1, 100 * _YEAR_SECONDS)
    now_us = time.time_ns() // 1000
    try:
        seconds = (parse_moment(text, now_us) - now_us) // 1_000_000
    except ValueError:
        message = f"{text!r} is neither a span (90d, 12h) nor a date (2026-11-22, 2026-11-22T10:00Z)."
        raise typer.BadParameter(message, param_hint="--expires") from None
    if not 1 <= seconds <= 100 * _YEAR_SECONDS:
        message = f"{text!r} is {'not in the future' if seconds < 1 else 'too far away'}"
        raise typer.BadParameter(message, param_hint="--expires")
    return seconds


def _seconds(span: str, option: str, least: int, most: int) -> int:
    from app.domain.spans import parse_span

    try:
        seconds = parse_span(span) // 1_000_000
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    if not least <= seconds <= most:
        raise typer.BadParameter(f"{span!r} is too {'short' if seconds < least else 'long'}", param_hint=option)
    return seconds
