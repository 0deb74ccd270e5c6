"""`weighbridge keys`: making and ending the keys that clients come with."""

from typing import Annotated, Any

import typer

from app.cli.admin_client import ask, part
from app.cli.options import ConfigOption, JsonOption, checked_client
from app.cli.output import print_json, print_table, whole_seconds

app = typer.Typer(name="keys", help="Make, list, revoke and rotate client keys.", no_args_is_help=True)

_YEAR_SECONDS = 31_536_000


def _checked_key_id(key_id: str) -> str:
    if "/" in key_id or not key_id.strip("."):  # it becomes a part of a path
        raise typer.BadParameter("this is no key id; `weighbridge keys list` shows them")
    return key_id


KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys list` shows it.", callback=_checked_key_id)]


@app.command()
def create(
    client: Annotated[
        str, typer.Argument(metavar="CLIENT", help="Who the key is for; made if new.", callback=checked_client)
    ],
    expires: Annotated[str | None, typer.Option(metavar="SPAN", help="How long it works, as 90d or 12h.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it, this once."""
    body: dict[str, Any] = {"client": client}
    if expires is not None:
        body["expires_seconds"] = _seconds(expires, "--expires", 1, 100 * _YEAR_SECONDS)
    made = ask("POST", "/keys", config, makes=True, json=body)
    _print_key(made, as_json)


@app.command("list")
def list_keys(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show all keys ever made, without their secrets."""
    keys = ask("GET", "/keys", config)["keys"]
    if as_json:
        print_json(keys)
        return
    columns = ("key_id", "client", "state", "created_at", "expires_at", "revoked_at")
    print_table(columns, [[whole_seconds(key[name]) for name in columns] for key in keys])
    if not keys:
        typer.echo("There are none yet: `weighbridge keys create CLIENT` makes one.", err=True)


@app.command()
def revoke(key_id: KeyId, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """End a key at once."""
    key = ask("POST", f"/keys/{part(key_id)}/revoke", config)
    if as_json:
        print_json(key)
    else:
        print(f"Key {key['key_id']} of {key['client']} is revoked.")


@app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[str, typer.Option(metavar="SPAN", help="How long the old key goes on working.")] = "24h",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a new key for the same client; old and new both work until the grace ends."""
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
    typer.echo(f"Key {made['key_id']} for {made['client']}. It is shown only now: keep it.", err=True)


def _seconds(span: str, option: str, least: int, most: int) -> int:
    from app.domain.spans import parse_span

    try:
        seconds = parse_span(span) // 1_000_000
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    if not least <= seconds <= most:
        raise typer.BadParameter(f"{span!r} is too {'short' if seconds < least else 'long'}", param_hint=option)
    return seconds
