"""A gateway behind real uvicorn on loopback, with the upstream, the ledger and the clock in the test's hands."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from app.domain.headers import Headers
from app.domain.records import Book, Record
from app.gateway.audit import AuditLog
from app.gateway.clients.keys import KeyService
from app.gateway.clients.terms_service import TermsService
from app.gateway.usage_query import UsageQuery
from app.serve.server import uvicorn_config
from app.web.application import Application, make_application
from app.web.connection.limiter import ConnectionLimiter, ConnectionLimits
from app.web.connection.protocol import ClientConnection
from app.web.connection.request_rules import RequestRules
from app.web.doors.responses import ResponsesEndpoint
from app.web.routes.caller_figures import CallerFigures
from app.web.routes.probes import HealthPart
from tests.gateway.forms import MemoryAudit, MemoryClientStore
from tests.gateway.house import STREAM_CALL, House

MAX_BODY_BYTES = 1_000_000
KEEP_ALIVE_SECONDS = 5
ADMIN_KEY = "wb-admin-of-this-test"


@asynccontextmanager
async def _no_lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield


class EmptyReports:
    """The Reports port over a ledger in which nothing is."""

    async def totals(self, query: UsageQuery) -> Sequence[Mapping[str, Any]]:
        assert query.until is None or query.until >= 0
        return []

    async def find(self, id_: str, query: UsageQuery) -> Sequence[Record]:
        return []

    async def records(self, query: UsageQuery) -> AsyncIterator[Record]:
        nothing: list[Record] = []
        for record in nothing:
            yield record


def make_app(house: House) -> Application:
    """The real application on the house's gateway."""
    app = make_application(_no_lifespan)
    app.state.clock = house.time.clock
    app.state.gateway = house.gateway
    store = MemoryClientStore()
    app.state.clients = KeyService(store, house.directory, house.time.clock.wall_us)
    app.state.terms_service = TermsService(store, house.directory.clients, house.limiter, house.time.clock.wall_us)
    app.state.readiness = lambda: {"storage": HealthPart()}
    app.state.render_metrics = lambda: (b"# metrics\n", "text/plain; version=1.0.0")
    app.state.reports = EmptyReports()
    app.state.book = Book.REAL
    app.state.figures = CallerFigures(house.time.clock.monotonic)
    app.state.audit = AuditLog(MemoryAudit(), house.time.clock.wall_us)
    app.state.admin_key = ADMIN_KEY
    app.hot = ResponsesEndpoint(house.gateway, MAX_BODY_BYTES, house.memory)
    return app


class _Server(uvicorn.Server):
    """uvicorn's server, told by events when to stop instead of asking ten times a second; signals are pytest's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        self.up.set()
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """At once: what a test leaves behind is not waited for."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Front:
    """A running server. `key` is a good client key."""

    house: House
    app: Application
    port: int
    key: str

    async def connect(self) -> "RawClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        return RawClient(reader, writer, self.key)

    async def ask(self, method: str, target: str, *headers: str, key: str | None = None, body: bytes = b"") -> "Answer":
        """One request on a connection of its own, and its answer."""
        client = await self.connect()
        client.key = key
        client.request(method, target, *headers, body=body)
        try:
            return await client.answer(method)
        finally:
            await client.close()


@asynccontextmanager
async def running(
    house: House, app: Application, protocol: str = "ours", rules: RequestRules | None = None
) -> AsyncIterator[Front]:
    """Serve `app`; `protocol` is ours, as in production, or uvicorn's bare one, as under another server."""
    rules = rules or RequestRules(frozenset([b"*"]))
    limits = ConnectionLimits(30, 30, 1000, 1000)
    limiter = ConnectionLimiter(rules, limits, house.gateway.new_id, house.gateway.refused)
    http: Any = "httptools" if protocol == "bare" else partial(ClientConnection, limiter=limiter)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(uvicorn_config(app, http, KEEP_ALIVE_SECONDS))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.wait_for(server.up.wait(), 10)
            yield Front(house, app, listener.getsockname()[1], house.make_key().text)
        finally:
            server.stop.set()
            await serving


@dataclass
class Answer:
    """An answer off the socket. `whole` says that its framing ended properly."""

    status: int
    headers: Headers
    body: bytes
    whole: bool

    def header(self, name: str) -> str | None:
        found = [value.decode() for key, value in self.headers if key == name.encode()]
        assert len(found) <= 1, f"{name} came more than once"
        return found[0] if found else None

    def is_ours(self, status: int, error_type: str) -> dict[str, Any]:
        """Assert the one error body of the contract; returns its `error`."""
        assert self.status == status
        assert self.header("content-type") == "application/json"
        assert self.whole
        document = json.loads(self.body)
        assert list(document) == ["error"]
        error: dict[str, Any] = document["error"]
        assert set(error) == {"code", "message", "type", "param", "metadata"}
        assert error["code"] == status
        assert error["message"]
        assert isinstance(error["type"], str)
        assert error["param"] is None or isinstance(error["param"], str)
        assert error["metadata"] == {"error_type": error_type, "request_id": self.header("x-request-id")}
        assert error["metadata"]["request_id"].startswith("req_")
        return error


class RawClient:
    """A client that is a socket: sends what it is told and reads what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str | None) -> None:
        self.reader = reader
        self.writer = writer
        self.key = key

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(self, method: str, target: str, *headers: str, body: bytes = b"", length: int | None = None) -> None:
        """A request with the client's key; `length` is announced in place of the body's own."""
        lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", *headers]
        if self.key is not None:
            lines.append(f"authorization: Bearer {self.key}")
        if (body or length is not None) and not any(line.startswith("transfer-encoding") for line in headers):
            lines.append(f"content-length: {len(body) if length is None else length}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def call(self, body: bytes = STREAM_CALL, *headers: str, target: str = "/v1/responses") -> None:
        """A call as clients make it."""
        self.request("POST", target, "content-type: application/json", *headers, body=body)

    async def head(self) -> tuple[int, Headers]:
        """Status and headers."""
        block = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        first, *lines = block.decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines]
        return int(first.split(" ")[1]), [(name.encode(), value.encode("latin-1")) for name, value in pairs]

    async def answer(self, method: str = "POST") -> Answer:
        """One whole answer, or as much of it as came."""
        status, headers = await self.head()
        found = dict(headers)
        if method == "HEAD" or status in {204, 304}:
            return Answer(status, headers, b"", whole=True)
        if b"content-length" in found:
            length = int(found[b"content-length"])
            body = await self.read_exactly(length)
            return Answer(status, headers, body, len(body) == length)
        body = b""
        while (piece := await self.chunk()) is not None:
            body += piece
            if not piece:
                return Answer(status, headers, body, whole=True)
        return Answer(status, headers, body, whole=False)

    async def chunk(self) -> bytes | None:
        """One chunk; empty for the last one, None when the connection ended instead."""
        try:
            size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 10), 16)
            return (await asyncio.wait_for(self.reader.readexactly(size + 2), 10))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def read_exactly(self, size: int) -> bytes:
        try:
            return await asyncio.wait_for(self.reader.readexactly(size), 10)
        except asyncio.IncompleteReadError as cut:
            return cut.partial

    async def body(self, size: int) -> bytes:
        """At least so many bytes of a chunked body, in whole chunks."""
        found = b""
        while len(found) < size:
            piece = await self.chunk()
            assert piece, "the stream ended"
            found += piece
        return found

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def stop_reading(self) -> None:
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def read_on(self) -> None:
        cast("asyncio.Transport", self.writer.transport).resume_reading()

    def vanish(self) -> None:
        """Be gone, as when a process is killed."""
        self.writer.transport.abort()
