"""Checks of upstream: its host name, the connection, the key and the latency. None of the calls is billed."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.cli.admin_client import ask_running, call
from app.cli.doctor.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from app.settings.secret import Secret
    from app.settings.upstream import UpstreamSettings
    from app.upstream.api.http_client import HttpClient

SECONDS = 10.0
SLOW_SECONDS = 1.0


@dataclass(slots=True)
class Probe:
    """One test connection to upstream. Fields of steps that were not reached are None; `fault` says why."""

    name: str
    base_url: str
    settings: "UpstreamSettings"
    addresses: list[str] = field(default_factory=list)
    connect_seconds: float | None = None
    answer_seconds: float | None = None
    ahead_seconds: float | None = None
    fault: str = ""
    distrusted: bool = False

    @property
    def host(self) -> str:
        """The host of the base URL."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def secure(self) -> bool:
        """Whether the base URL has TLS."""
        return urlsplit(self.base_url).scheme == "https"

    def run(self) -> None:
        """Look the name up, connect, and ask for the models without a key."""
        try:
            self._resolve()
            with closing(self._connection()) as connection:
                started = perf_counter()
                connection.connect()
                self.connect_seconds = perf_counter() - started
                self._ask(connection)
        except ssl.SSLCertVerificationError as error:
            self.fault, self.distrusted = error.verify_message or str(error), True
        except (OSError, HTTPException) as error:
            self.fault = getattr(error, "strerror", None) or str(error) or type(error).__name__

    @property
    def first_host(self) -> str:
        """The host to connect to: upstream, or the proxy on the way there. Upstream on this machine needs no proxy."""
        proxy = self.settings.proxy if self.secure else None
        return self.host if proxy is None else urlsplit(proxy).hostname or ""

    def _resolve(self) -> None:
        found = socket.getaddrinfo(self.first_host, None, type=socket.SOCK_STREAM)
        self.addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _connection(self) -> HTTPConnection:
        origin = self.settings.target(self.base_url).origin
        hop = origin.first_hop
        if origin.tls is None:
            return HTTPConnection(hop.host, hop.port, timeout=SECONDS)
        connection = HTTPSConnection(hop.host, hop.port, timeout=SECONDS, context=origin.tls)
        if origin.proxy is not None:
            login = origin.proxy.authorization.decode("ascii")
            connection.set_tunnel(origin.host, origin.port, {"Proxy-Authorization": login} if login else {})
        return connection

    def _ask(self, connection: HTTPConnection) -> None:
        started = perf_counter()
        base = urlsplit(self.base_url)
        connection.request("GET", f"{base.path}/models" + (f"?{base.query}" if base.query else ""))
        answer = connection.getresponse()
        self.answer_seconds = perf_counter() - started
        told = answer.getheader("date")
        if told is not None:
            try:
                self.ahead_seconds = (datetime.now(UTC) - parsedate_to_datetime(told)).total_seconds()
            except ValueError:
                return


def check_name(probe: Probe) -> Iterator[Finding]:
    """Whether the host name has an address."""
    check = f"upstream {probe.name}: name"
    if probe.addresses:
        yield ok(check, f"{probe.first_host} has the address {', '.join(probe.addresses[:3])}")
    else:
        yield fail(
            check, f"{probe.first_host}: {probe.fault}", "check that the name is right and this machine has a network"
        )


def check_connection(probe: Probe) -> Iterator[Finding]:
    """Whether upstream can be reached and its certificate is trusted."""
    check = f"upstream {probe.name}: {'tls' if probe.secure else 'connection'}"
    if probe.connect_seconds is not None:
        yield ok(check, f"connected in {probe.connect_seconds * 1000:.0f} ms")
    elif probe.distrusted:
        todo = "behind a company's proxy, set WEIGHBRIDGE_UPSTREAM_CA_FILE to its certificate authority"
        yield fail(check, f"the certificate of {probe.host} is not trusted: {probe.fault}", todo)
    elif probe.addresses:
        yield fail(
            check, f"{probe.host}: {probe.fault}", "check whether a firewall is in between, or a proxy is needed"
        )


def check_latency(probe: Probe) -> Iterator[Finding]:
    """How long upstream takes to answer a free call."""
    check = f"upstream {probe.name}: latency"
    if probe.answer_seconds is not None:
        detail = f"a free call is answered in {probe.answer_seconds * 1000:.0f} ms"
        yield warn(check, detail) if probe.answer_seconds > SLOW_SECONDS else ok(check, detail)
    elif probe.connect_seconds is not None:
        yield fail(check, f"no answer: {probe.fault}", "check that the base URL is right")


def check_key(probe: Probe, key: "Secret | None", config: Path | None, *, running: bool) -> Iterator[Finding]:
    """Whether upstream accepts the key: that of the running server, or else of the settings."""
    check = f"upstream {probe.name}: key"
    if not running and key is None:
        yield fail(
            check,
            "there is no upstream key",
            "set OPENROUTER_API_KEY or WEIGHBRIDGE_UPSTREAM_KEY, or serve with --demo",
        )
        return
    if probe.answer_seconds is None:
        return
    taken = _server_asked(config) if key is None or running else _asked_here(probe, key)
    if taken:
        yield ok(check, "upstream accepts it")
    elif taken is None:
        yield warn(
            check, "upstream does not say whether it accepts the key", "try a call: `weighbridge doctor --spend`"
        )
    else:
        yield fail(check, "upstream does not accept it (HTTP 401)", "replace it with a valid key of this upstream")


def _server_asked(config: Path | None) -> bool | None:
    async def asked(client: "HttpClient") -> bool | None:
        taken: bool | None = (await call(client, "GET", "/upstream/key"))["taken"]
        return taken

    return ask_running(asked, config)


def _asked_here(probe: Probe, key: "Secret") -> bool | None:
    from app.upstream.api.client import UpstreamApi
    from app.upstream.api.key_check import UpstreamKeyCheck

    async def asked() -> bool | None:
        api = UpstreamApi(probe.settings.target(probe.base_url), key.reveal())
        try:
            return await UpstreamKeyCheck(api).takes_key()
        finally:
            await api.close()

    return asyncio.run(asked())
