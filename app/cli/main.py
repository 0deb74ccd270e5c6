"""The command line and its commands. Each imports what it needs when it runs, so that `--help` is quick."""

from typing import Annotated

import typer

from app.cli import clients, config, db, groups, keys, limits
from app.cli.audit import audit
from app.cli.command_group import Commands
from app.cli.connect import connect
from app.cli.doctor.command import doctor
from app.cli.mock_upstream import mock_upstream
from app.cli.prices import prices
from app.cli.reconcile import reconcile
from app.cli.run import run
from app.cli.serve import serve
from app.cli.usage import usage
from app.cli.version import version

app = typer.Typer(
    cls=Commands,
    help="Weighbridge: a proxy and team gateway for the OpenAI Responses API. It records the tokens and the cost of "
    "each call.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},  # commands inherit it
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command()(serve)
app.add_typer(keys.app)
app.add_typer(clients.app)
app.add_typer(groups.app)
app.add_typer(limits.app)
app.command()(connect)
app.command(context_settings={"allow_interspersed_args": False})(run)
app.command()(usage)
app.command()(audit)
app.command()(prices)
app.command()(reconcile)
app.command()(doctor)
app.add_typer(config.app)
app.add_typer(db.app)
app.command(name="mock-upstream")(mock_upstream)
app.command()(version)
