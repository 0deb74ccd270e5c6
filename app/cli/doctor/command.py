"""The command: runs the checks in order and prints their findings."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.doctor.finding import Finding, State, fail, ok, warn
from app.cli.options import ConfigOption, JsonOption
from app.cli.output import print_json, visible

if TYPE_CHECKING:
    from app.cli.doctor.handshake import RunningGateway

    GatewayCheck = Callable[[RunningGateway], Iterator[Finding]]
    from app.cli.doctor.server import Server
    from app.cli.doctor.upstream import Probe
    from app.settings import Settings

_COLOURS = {State.OK: "32", State.WARN: "33", State.FAIL: "31"}
_WIDTH = 32


def doctor(
    upstream_only: Annotated[
        bool, typer.Option("--upstream-only", help="Check only the settings and the upstream.")
    ] = False,
    spend: Annotated[bool, typer.Option("--spend", help="Also make three short calls that cost money.")] = False,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="The model for --spend.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check the settings, the storage, the clock and the upstream, and send test calls as common clients do."""
    findings: list[Finding] = []
    for finding in _findings(config, model, upstream_only=upstream_only, spend=spend):
        findings.append(finding)
        if not as_json:
            print(_line(finding), flush=True)
    if as_json:
        print_json([finding.shown() for finding in findings])
    if any(finding.state is State.FAIL for finding in findings):
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    state = f"{finding.state:<4}"
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        state = f"\033[{_COLOURS[finding.state]}m{state}\033[0m"
    todo = "" if finding.next is None else f". Next: {finding.next}"
    return f"{state}  {finding.check:<{_WIDTH}}  {visible(finding.detail + todo)}"


def _findings(config: Path | None, model: str | None, *, upstream_only: bool, spend: bool) -> Iterator[Finding]:
    from app.cli.config import load
    from app.cli.doctor.server import running_server
    from app.settings import SettingsError

    try:
        settings = load(config)
    except SettingsError as error:
        yield fail("settings", "; ".join(map(str, error.faults)), "correct them; `weighbridge config check` lists them")
        return
    yield _settings(settings)
    try:
        server = running_server(config)
        probe = _probe(settings, server)
        if not upstream_only:
            yield from _local(settings, server, probe)
        yield from _upstream(settings, probe, config, running=server is not None)
        if server is not None and not upstream_only:
            yield from _handshakes(settings, server, config, model, spend=spend)
    except (ConnectionError, typer.Exit):  # the reason was printed
        todo = "run the command as the user who runs the server, with the same settings"
        yield fail("admin API", "the server has ended, or refuses this command", todo)


def _settings(settings: "Settings") -> Finding:
    """Valid settings, perhaps with warnings of a start."""
    from app.settings.cautions import cautions

    found = list(cautions(settings, os.environ))
    if not found:
        return ok("settings", "they are right")
    return warn("settings", "; ".join(found), "change what you did not intend; the server starts all the same")


def _probe(settings: "Settings", server: "Server | None") -> "Probe":
    """Probe the upstream of the running server, or else of the settings."""
    from app.cli.doctor.upstream import Probe

    upstream = settings.upstream
    probe = Probe(upstream.name, upstream.base_url, upstream)
    if server is not None:
        probe = Probe(server.upstream["name"], server.upstream["base_url"], upstream)
    probe.run()
    return probe


def _local(settings: "Settings", server: "Server | None", probe: "Probe") -> Iterator[Finding]:
    from app.cli.doctor.machine import check_clock, check_disk_space, check_state_directory
    from app.cli.doctor.price_book import check_price_book
    from app.cli.doctor.server import check_gateway, check_public_url
    from app.cli.doctor.storage import check_database, check_redis

    storage = settings.storage
    yield from check_state_directory(storage.state_dir)
    yield from check_disk_space(storage.state_dir)
    yield from check_clock(probe.ahead_seconds, probe.host)
    yield from check_database(storage, server)
    yield from check_redis(storage, server)
    yield from check_price_book(datetime.now(UTC).date())
    yield from check_gateway(server)
    yield from check_public_url(server)


def _upstream(settings: "Settings", probe: "Probe", config: Path | None, *, running: bool) -> Iterator[Finding]:
    from app.cli.doctor.upstream import check_connection, check_key, check_latency, check_name

    yield from check_name(probe)
    yield from check_connection(probe)
    yield from check_latency(probe)
    yield from check_key(probe, settings.upstream.key, config, running=running)


def _handshakes(
    settings: "Settings", server: "Server", config: Path | None, model: str | None, *, spend: bool
) -> Iterator[Finding]:
    from app.cli.doctor import codex, sdks, spending
    from app.cli.doctor.handshake import RunningGateway
    from app.cli.doctor.server import doctor_key

    address = server.address
    with doctor_key(config, spend=False) as key:
        gateway = RunningGateway(address.local_base_url, key, address.model)
        yield from _asked(gateway, (*codex.CHECKS, *sdks.CHECKS))
        yield from _asked(gateway, [lambda asked: sdks.check_preflight(asked, settings.server.allowed_origins)])
    if spend:
        with doctor_key(config, spend=True) as key:
            yield from _asked(RunningGateway(address.local_base_url, key, model or address.model), spending.CHECKS)


def _asked(
    gateway: "RunningGateway", checks: "Iterable[Callable[[RunningGateway], Iterator[Finding]]]"
) -> Iterator[Finding]:
    from app.cli.doctor.handshake import BROKEN, unreachable

    for check in checks:
        try:
            yield from check(gateway)
        except BROKEN as error:
            yield unreachable(getattr(check, "__name__", "browser").removeprefix("check_").replace("_", " "), error)
