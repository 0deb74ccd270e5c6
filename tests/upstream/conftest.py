"""Wires to scripted servers, on both event loops; at a test's end loop, listeners and pools must be in order."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvloop

from app.gateway.ports import UpstreamRequest
from app.upstream.wire.pool import WireTimeouts
from app.upstream.wire.target import Target
from app.upstream.wire.wire import UpstreamWire
from tests.upstream.hearing import Hearing
from tests.upstream.raw_server import RawServer, Script, until

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-or-server-key"
POST = UpstreamRequest("POST", "/responses", [(b"content-type", b"application/json")], b'{"model": "m"}')
LARGE = UpstreamRequest("POST", "/responses", [], bytes(range(256)) * 32 * 1024)  # 8 MiB


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Every asynchronous test runs on both: uvloop is what we serve on, asyncio's own what others may use us with."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class Certificates:
    """An authority of this test run, and a server certificate of it for localhost."""

    ca_file: str
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = trustme.CA()
    ca_file: Path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    return Certificates(str(ca_file), server)


@pytest.fixture(params=["plain", "tls"])
def perhaps_tls(request: pytest.FixtureRequest, certificates: Certificates) -> Certificates | None:
    """A test that wants this runs twice: without TLS (None), and with it."""
    return certificates if request.param == "tls" else None


async def empty(wire: UpstreamWire, seconds: float = 2) -> None:
    """Until the wire has no connection left, in whatever state."""
    await until(lambda: not any(wire.connections().values()), seconds)


class Scene:
    """Servers, wires to them and what was heard. Everything is closed, and looked over, at the end."""

    def __init__(self) -> None:
        self._servers: list[RawServer] = []
        self._wires: list[UpstreamWire] = []
        self._hearings: list[Hearing] = []
        self.loop_faults: list[dict[str, Any]] = []

    async def serve(
        self, script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> RawServer:
        server = await RawServer(script).start(tls, host, port)
        self._servers.append(server)
        return server

    def wire(self, url: str, ca_file: str | None = None, **timeouts: float) -> UpstreamWire:
        patience = WireTimeouts(**{"connect": 5.0, "first_byte": 5.0, "idle": 5.0, **timeouts})
        wire = UpstreamWire("test", Target.of(url, ca_file=ca_file), KEY, patience)
        self._wires.append(wire)
        return wire

    async def wired(self, script: Script, **timeouts: float) -> tuple[UpstreamWire, RawServer]:
        """A plain server with this script, and a wire to it."""
        server = await self.serve(script)
        return self.wire(f"http://127.0.0.1:{server.port}/v1", None, **timeouts), server

    async def wired_to(self, script: Script, certificates: Certificates | None) -> tuple[UpstreamWire, RawServer]:
        """The same, with TLS when there are certificates."""
        if certificates is None:
            return await self.wired(script)
        server = await self.serve(script, tls=certificates.server)
        return self.wire(f"https://localhost:{server.port}", certificates.ca_file), server

    def open(
        self,
        wire: UpstreamWire,
        request: UpstreamRequest = POST,
        react: Callable[[str, Hearing], None] | None = None,
    ) -> Hearing:
        hearing = Hearing(react)
        self._hearings.append(hearing)
        hearing.call = wire.open(request, hearing)
        return hearing

    async def ask(self, wire: UpstreamWire, request: UpstreamRequest = POST) -> Hearing:
        """One call, heard to its end."""
        hearing = self.open(wire, request)
        await hearing.finished()
        return hearing

    async def close(self) -> None:
        for wire in self._wires:
            await wire.close()
        try:
            for wire in self._wires:
                await empty(wire)
        finally:
            for server in self._servers:
                await server.close()
        assert [wrong for hearing in self._hearings for wrong in hearing.wrong] == []
        assert self.loop_faults == []


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: scene.loop_faults.append(context))
    yield scene
    await scene.close()
