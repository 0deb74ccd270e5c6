"""The running server, as it describes itself over the admin API."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app import __version__
from app.cli.admin_client import CommandFailedError, ask, ask_running, call, let_it_spread, part
from app.cli.doctor.finding import Finding, fail, ok, warn
from app.cli.server_address import ServerAddress, address_of

if TYPE_CHECKING:
    from app.upstream.api.http_client import HttpClient

CLIENT, SPENDER = "doctor", "doctor-spend"
KEY_SECONDS = 900
NO_MODEL = "doctor/no-model"
"""All that the client `doctor` may ask for: every call is judged, and refused before it goes out."""

SECONDS = 5.0
_NO_LIMITS = {
    "rpm": None,
    "tpm": None,
    "concurrency": None,
    "budget_usd": None,
    "budget_tokens": None,
    "enabled": True,
}
"""Or those that new clients get by the settings would be what is found."""


@dataclass(slots=True, frozen=True)
class Server:
    """One that runs. `parts` are those of /readyz; `upstream` its name and base URL."""

    version: str
    address: ServerAddress
    upstream: dict[str, str]
    parts: dict[str, dict[str, Any]]


def running_server(config: Path | None) -> Server | None:
    """The server that runs. Exits 1 when it does not let this command in."""

    async def described(client: "HttpClient") -> Server:
        about, upstream = await call(client, "GET", "/server"), await call(client, "GET", "/upstream")
        parts = (await client.get("/readyz")).json()["parts"]
        return Server(about["version"], await address_of(client), upstream, parts)

    return ask_running(described, config)


@contextmanager
def doctors_key(config: Path | None, *, spend: bool) -> Iterator[str]:
    """A key of a client of doctor's own, for a while. Unless it may `spend`, none of its calls goes upstream."""
    name = SPENDER if spend else CLIENT

    async def made(client: "HttpClient") -> dict[str, str]:
        with suppress(CommandFailedError):  # it says that there is no deleted client of that name
            await call(client, "POST", f"/clients/{part(name)}/restore")
        wanted = {"client": name, "label": "doctor", "expires_seconds": KEY_SECONDS}
        key: dict[str, str] = await call(client, "POST", "/keys", json=wanted)
        terms = {**_NO_LIMITS, "models": None if spend else [NO_MODEL]}
        await call(client, "PATCH", f"/clients/{part(name)}", json=terms)
        return key

    key = ask_running(made, config)
    if key is None:
        raise ConnectionError("the server has ended")
    let_it_spread(config)
    try:
        yield key["key"]
    finally:
        ask("POST", f"/keys/{part(key['key_id'])}/revoke", config)


def check_gateway(server: Server | None) -> Iterator[Finding]:
    """Does a server run, of this version, and does it answer where clients call it?"""
    if server is None:
        yield warn("gateway", "no server runs here, so no client was tried", "start one with `weighbridge serve`")
        return
    url = server.address.url
    started = perf_counter()
    try:
        status = _health(url)
    except (OSError, HTTPException) as error:
        yield fail("gateway", f"{url} does not answer: {error}", "see whether a firewall or another network is between")
        return
    detail = f"{url} answers in {(perf_counter() - started) * 1000:.0f} ms"
    if status != 200:
        yield fail("gateway", f"{url}/healthz answers HTTP {status}", "see what else listens there")
    elif server.version != __version__:
        yield warn(
            "gateway", f"the server is version {server.version}, this command {__version__}", "restart the server"
        )
    else:
        yield ok("gateway", detail)


def check_public_url(server: Server | None) -> Iterator[Finding]:
    """Does it answer at the address that clients are given, if that is another one?"""
    if server is None or server.address.public_url == server.address.url:
        return
    url = server.address.public_url
    todo = "see the proxy in front; clients elsewhere may reach it all the same"
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
