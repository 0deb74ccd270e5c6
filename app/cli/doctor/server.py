"""Checks of the running server, through the admin API."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app import __version__
from app.cli.admin_client import CommandFailedError, ask, ask_running, call, part, wait_until_known
from app.cli.doctor.finding import Finding, fail, ok, warn
from app.cli.server_address import ServerAddress, address_of

if TYPE_CHECKING:
    from app.upstream.api.http_client import HttpClient

CLIENT, SPENDER = "doctor", "doctor-spend"
KEY_SECONDS = 900
NO_MODEL = "doctor/no-model"
"""The only model that the client `doctor` may use. It does not exist, so all its calls are refused before upstream."""

SECONDS = 5.0
_NO_LIMITS = {
    "rpm": None,
    "tpm": None,
    "concurrency": None,
    "budget_usd": None,
    "budget_tokens": None,
    "enabled": True,
}
"""No limits, so that the settings' default limits for new clients do not disturb the checks."""


@dataclass(slots=True, frozen=True)
class Server:
    """The running server. `parts` are those of /readyz; `upstream` is the name and base URL."""

    version: str
    address: ServerAddress
    upstream: dict[str, str]
    parts: dict[str, dict[str, Any]]


def running_server(config: Path | None) -> Server | None:
    """The running server, or None. Exits 1 if it refuses this command."""

    async def described(client: "HttpClient") -> Server:
        about, upstream = await call(client, "GET", "/server"), await call(client, "GET", "/upstream")
        parts = (await client.get("/readyz")).json()["parts"]
        return Server(about["version"], await address_of(client), upstream, parts)

    return ask_running(described, config)


@contextmanager
def doctor_key(config: Path | None, *, spend: bool) -> Iterator[str]:
    """A key of doctor's own client, revoked at the end. Unless it may `spend`, none of its calls goes upstream."""
    name = SPENDER if spend else CLIENT

    async def made(client: "HttpClient") -> dict[str, str]:
        with suppress(CommandFailedError):  # there is no deleted client of that name
            await call(client, "POST", f"/clients/{part(name)}/restore")
        wanted = {"client": name, "label": "doctor", "expires_seconds": KEY_SECONDS}
        key: dict[str, str] = await call(client, "POST", "/keys", json=wanted)
        terms = {**_NO_LIMITS, "models": None if spend else [NO_MODEL]}
        await call(client, "PATCH", f"/clients/{part(name)}", json=terms)
        return key

    key = ask_running(made, config)
    if key is None:
        raise ConnectionError("the server has ended")
    wait_until_known(config)
    try:
        yield key["key"]
    finally:
        ask("POST", f"/keys/{part(key['key_id'])}/revoke", config)


def check_gateway(server: Server | None) -> Iterator[Finding]:
    """Whether a server of this version runs, and answers at the address that clients use."""
    if server is None:
        yield warn("gateway", "no server runs here, so no client was tested", "start one with `weighbridge serve`")
        return
    url = server.address.url
    started = perf_counter()
    try:
        status = _health(url)
    except (OSError, HTTPException) as error:
        yield fail("gateway", f"{url} does not answer: {error}", "check for a firewall or another network in between")
        return
    detail = f"{url} answers in {(perf_counter() - started) * 1000:.0f} ms"
    if status != 200:
        yield fail("gateway", f"{url}/healthz answers HTTP {status}", "check which other program listens there")
    elif server.version != __version__:
        yield warn(
            "gateway", f"the server is version {server.version}, this command {__version__}", "restart the server"
        )
    else:
        yield ok("gateway", detail)


def check_public_url(server: Server | None) -> Iterator[Finding]:
    """Whether the server answers at its public address, if that differs."""
    if server is None or server.address.public_url == server.address.url:
        return
    url = server.address.public_url
    todo = "check the proxy in front; clients on other networks may still reach it"
    try:
        status = _health(url)
    except (OSError, HTTPException) as error:
        yield warn("public address", f"{url} does not answer from here: {error}", todo)
        return
    if status == 200:
        yield ok("public address", f"{url} answers")
    else:
        yield warn("public address", f"{url}/healthz answers HTTP {status}", todo)


def _health(url: str) -> int:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=SECONDS)) as connection:
        connection.request("GET", f"{parts.path}/healthz")
        return int(connection.getresponse().status)
