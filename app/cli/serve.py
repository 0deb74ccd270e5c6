"""`weighbridge serve`: runs the gateway."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import ConfigOption

if TYPE_CHECKING:
    from app.settings import Settings
    from app.telemetry.logging import LogOutput

WRONG_USE = 2


def serve(
    host: Annotated[str | None, typer.Option(metavar="HOST", help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Port to listen on. [default: 8787]")] = None,
    config: ConfigOption = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Use a built-in mock upstream. Needs no upstream key and no network.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=256, help="Number of processes. More than one needs PostgreSQL."),
    ] = 1,
    upstream_key_stdin: Annotated[
        bool, typer.Option("--upstream-key-stdin", help="Read the upstream key from standard input.")
    ] = False,
) -> None:
    """Run the gateway. The first start creates a client and prints its key."""
    from app.serve.allocator import settle_allocator
    from app.settings import SettingsError, load_settings
    from app.settings.hardening import harden_process, scrub_environment

    if demo and upstream_key_stdin:
        message = "--demo takes no upstream key"
        raise typer.BadParameter(message, param_hint="--upstream-key-stdin")
    stdin_key = sys.stdin.readline() if upstream_key_stdin else None
    try:
        settings = load_settings(
            config, {"server.host": host, "server.port": port}, stdin_key=stdin_key, need_upstream_key=not demo
        )
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(WRONG_USE) from None
    if workers > 1 and settings.storage.database_url is None:
        print(
            "--workers: SQLite is for one process; set WEIGHBRIDGE_DATABASE_URL to a PostgreSQL database",
            file=sys.stderr,
        )
        raise typer.Exit(WRONG_USE)
    scrub_environment(settings.secret_variables)
    refused = harden_process()
    settle_allocator()
    # structlog loads rich (6 MB) if it is installed, to colour tracebacks. We write them as text.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None makes the import fail
    if workers > 1:
        raise typer.Exit(_run_workers(settings, refused, workers, demo=demo))
    raise typer.Exit(_run(settings, refused, demo=demo))


def _run(settings: "Settings", refused: tuple[str, ...], *, demo: bool) -> int:
    import uvloop

    from app.serve.run import Problem, run

    log = _log(settings, refused, demo=demo)
    try:
        uvloop.run(run(settings, log, demo=demo))
    except Problem as problem:
        log.close()
        print(f"weighbridge: {problem}", file=sys.stderr)
        return 1
    finally:
        log.close()
    return 0


def _run_workers(settings: "Settings", refused: tuple[str, ...], count: int, *, demo: bool) -> int:
    from app.serve.run import Problem
    from app.serve.workers import Workers

    if settings.storage.redis_url is None:
        warning = (
            f"weighbridge: without WEIGHBRIDGE_REDIS_URL each of {count} workers admits as much as the limits allow"
        )
        print(warning, file=sys.stderr)
    try:
        return Workers(
            settings, lambda number: _log(settings, refused, demo=demo, warns=number == 1), count, demo
        ).run()
    except Problem as problem:
        print(f"weighbridge: {problem}", file=sys.stderr)
        return 1


def _log(settings: "Settings", refused: tuple[str, ...], *, demo: bool, warns: bool = True) -> "LogOutput":
    """Open the log. If `warns`, it gets the warnings of the start; only one of several workers does that."""
    import logging
    import os

    from app.settings.cautions import cautions
    from app.telemetry.logging import configure_logging, log_uncaught

    log = configure_logging(settings.log.format, settings.log.level, _secrets(settings))
    log_uncaught()
    if warns:
        for caution in (*(f"hardening: {measure}" for measure in refused), *cautions(settings, os.environ, demo=demo)):
            logging.getLogger("app").warning("%s", caution)
    return log


def _secrets(settings: "Settings") -> list[str]:
    held = (settings.upstream.key, settings.upstream.proxy_password, settings.server.admin_key)
    return [secret.reveal() for secret in held if secret is not None]
