"""`weighbridge mock-upstream`: a Responses upstream for demonstrations and tests."""

import errno
import os
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from app.mock.options import MockOptions


def mock_upstream(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 9797,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", envvar="WEIGHBRIDGE_MOCK_KEY", help="The key that callers must send."),
    ] = None,
    dialect: Annotated[str, typer.Option(metavar="NAME", help="The server to imitate.")] = "openrouter",
    fault: Annotated[
        str, typer.Option(metavar="SPEC", help="Faults for every call, such as truncate@7 or status=429:2.")
    ] = "",
    pace: Annotated[
        str, typer.Option(metavar="RATE[:WAIT]", help="Tokens a second, and seconds until the first; 0 does not wait.")
    ] = "80:0.3",
    seed: Annotated[int | None, typer.Option(metavar="N", help="Makes ids, texts and timing repeatable.")] = None,
    books_delay: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Seconds until GET /generation knows a call.")
    ] = 0.0,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="Print all faults and exit.")] = False,
    list_dialects: Annotated[bool, typer.Option("--list-dialects", help="Print all dialects and exit.")] = False,
    as_json: JsonOption = False,
    _config: ConfigOption = None,
) -> None:
    """Run a Responses upstream for demos and tests: streams, JSON, usage, and scripted faults."""
    from app.mock.faults import BadFault
    from app.mock.options import BadOption, MockOptions
    from app.mock.pace import BadPace, Pace

    if list_faults or list_dialects:
        _print(_faults() if list_faults else _dialects(), as_json=as_json)
        return
    try:
        options = MockOptions(
            key=key or None,
            dialect=dialect,
            faults=fault,
            pace=Pace.parse(pace),
            seed=seed,
            books_delay_seconds=books_delay,
        )
    except (BadFault, BadOption, BadPace) as wrong:
        typer.echo(f"weighbridge mock-upstream: {wrong}", err=True)
        raise typer.Exit(2) from wrong
    _serve(options, host, port)


def _faults() -> list[dict[str, str]]:
    from app.mock.faults import CATALOGUE

    return [{"name": kind.name, "example": kind.example, "summary": kind.summary} for kind in CATALOGUE]


def _dialects() -> list[dict[str, str]]:
    from app.mock.dialects import DIALECTS

    return [{"name": name, "summary": spoken.summary} for name, spoken in DIALECTS.items()]


def _print(rows: list[dict[str, str]], *, as_json: bool) -> None:
    if as_json:
        from json import dumps

        typer.echo(dumps(rows, indent=2))
        return
    width = max(len(row.get("example", row["name"])) for row in rows)
    for row in rows:
        typer.echo(f"{row.get('example', row['name']):<{width}}  {row['summary']}")


def _serve(options: "MockOptions", host: str, port: int) -> None:
    import uvloop

    from app.mock.server import serve

    def announce(url: str) -> None:
        typer.echo(f"Mock upstream, dialect {options.dialect}. Stop it with Ctrl-C.", err=True)
        typer.echo(f"{url}/api/v1")

    try:
        uvloop.run(serve(options, host, port, announce))
    except OSError as failed:
        code = failed.errno or 0
        why = (
            os.strerror(code) if code > 0 else str(failed.strerror).partition(" (")[0]
        )  # below 0: the name was not found
        again = ". Choose another port with --port." if code == errno.EADDRINUSE else ""
        typer.echo(f"weighbridge mock-upstream: cannot listen on {host}:{port}: {why}{again}", err=True)
        raise typer.Exit(1) from failed
