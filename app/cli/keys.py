"""`weighbridge keys`: making and ending the keys that clients come with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import JsonOption, print_json, print_table, whole_seconds

if TYPE_CHECKING:
    from app.upstream.http_client import HttpClient

app = typer.Typer(name="keys", help="Make, list, revoke and rotate client keys.", no_args_is_help=True)

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The TOML file to read.")]
_YEAR_SECONDS = 31_536_000
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="As `keys list` shows it.")]


@app.command()
def create(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="Who the key is for; made if new.")],
    expires: Annotated[str | None, typer.Option(metavar="SPAN", help="How long it works, as 90d or 12h.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it, this once."""
    from app.domain.keys import check_client_name

    try:
        check_client_name(client)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="CLIENT") from None
    body: dict[str, Any] = {"client": client}
    if expires is not None:
        body["expires_seconds"] = _seconds(expires, "--expires", 1, 100 * _YEAR_SECONDS)
    made = _call("POST", "/keys", config, json=body)
    _print_key(made, as_json)


@app.command("list")
def list_keys(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show all keys ever made, without their secrets."""
    keys = _call("GET", "/keys", config)["keys"]
    if as_json:
        print_json(keys)
        return
    columns = ("key_id", "client", "state", "created_at", "expires_at", "revoked_at")
    print_table(columns, [[whole_seconds(key[name]) for name in columns] for key in keys])


@app.command()
def revoke(key_id: KeyId, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """End a key at once."""
    key = _call("POST", f"/keys/{_path(key_id)}/revoke", config)
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
    made = _call("POST", f"/keys/{_path(key_id)}/rotate", config, json=rotation)
    _print_key(made, as_json)
    if not as_json:
        old = made["old_key"]
        typer.echo(f"The old key {old['key_id']} works until {whole_seconds(old['expires_at'])}.", err=True)


def _call(method: str, path: str, config: Path | None, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    from app.cli.admin_client import call, run_admin

    async def work(client: "HttpClient") -> Any:  # noqa: ANN401
        return await call(client, method, path, **arguments)

    return run_admin(work, config)


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


def _path(key_id: str) -> str:
    from urllib.parse import quote

    return quote(key_id, safe="")
