"""The wire under httpx2: what its users expect of a transport."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from app.upstream.wire.pool import WireTimeouts
from app.upstream.wire.target import Target
from app.upstream.wire.transport import WireTransport
from tests.upstream.conftest import Certificates, Scene
from tests.upstream.raw_server import HeardRequest, Peer, canned, chunked, sized, until

OWN_BODY = b'{"own": true}'
OWN = sized(OWN_BODY, b"content-type: application/json")


@asynccontextmanager
async def client_of(
    url: str, timeouts: WireTimeouts | None = None, ca_file: str | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    transport = WireTransport(Target.of(url, ca_file=ca_file), timeouts)
    async with httpx2.AsyncClient(transport=transport, base_url=url) as client:
        yield client
    await until(lambda: not any(transport._pool.counts().values()))


async def test_get_and_post(scene: Scene) -> None:
    heard: list[HeardRequest] = []
    server = await scene.serve(canned(OWN, OWN, OWN, heard=heard))
    async with client_of(f"http://127.0.0.1:{server.port}/v1") as client:
        assert (await client.get("models", params={"a": "b c"}, headers={"X-Mine": "1"})).json() == {"own": True}
        assert (await client.post("responses", json={"model": "m"})).status_code == 200
        assert (await client.post("responses")).http_version == "HTTP/1.1"
    assert [request.line for request in heard] == [
        b"GET /v1/models?a=b+c HTTP/1.1",
        b"POST /v1/responses HTTP/1.1",
        b"POST /v1/responses HTTP/1.1",
    ]
    assert [request.values(b"content-length") for request in heard] == [[], [b"13"], [b"0"]]
    assert [request.body for request in heard] == [b"", b'{"model":"m"}', b""]
    assert all(request.values(b"host") == [b"127.0.0.1:%d" % server.port] for request in heard)
    assert heard[0].values(b"x-mine") == [b"1"]
    assert heard[0].values(b"connection") == heard[0].values(b"transfer-encoding") == []
    assert server.accepted == 1


async def test_the_query_of_the_base_url_stands_before_a_request_s_own(scene: Scene) -> None:
    heard: list[HeardRequest] = []
    server = await scene.serve(canned(OWN, OWN, heard=heard))
    target = Target.of(f"http://127.0.0.1:{server.port}/v1/?api-version=a%20b")
    async with httpx2.AsyncClient(transport=WireTransport(target), base_url=target.url) as client:
        await client.get("models")
        await client.get("models", params={"limit": 5})
    assert [request.line for request in heard] == [
        b"GET /v1/models?api-version=a%20b HTTP/1.1",
        b"GET /v1/models?api-version=a%20b&limit=5 HTTP/1.1",
    ]


async def test_a_body_given_in_pieces_gets_a_length(scene: Scene) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    heard: list[HeardRequest] = []
    server = await scene.serve(canned(OWN, heard=heard))
    async with client_of(f"http://127.0.0.1:{server.port}") as client:
        await client.post("/", content=pieces())
    assert (heard[0].body, heard[0].values(b"content-length")) == (b"onetwo", [b"6"])
    assert heard[0].values(b"transfer-encoding") == []


async def test_over_tls(scene: Scene, certificates: Certificates) -> None:
    server = await scene.serve(canned(OWN), tls=certificates.server)
    async with client_of(f"https://localhost:{server.port}", ca_file=certificates.ca_file) as client:
        assert (await client.get("/")).json() == {"own": True}


async def test_a_stream_is_read_as_it_comes(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for n in range(3):
            await asked.wait()
            asked.clear()
            await peer.send(b"1\r\n%d\r\n" % n)
        await peer.send(b"0\r\n\r\n")

    asked = asyncio.Event()
    server = await scene.serve(script)
    async with client_of(f"http://127.0.0.1:{server.port}") as client, client.stream("GET", "/") as answer:
        asked.set()
        async for chunk in answer.aiter_bytes():
            assert chunk in (b"0", b"1", b"2")
            asked.set()


async def test_a_slow_reader_holds_upstream_back(scene: Scene) -> None:
    total = 16 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while peer.sent_bytes < total:
            await peer.send(b"x" * 65536)

    server = await scene.serve(script)
    async with client_of(f"http://127.0.0.1:{server.port}") as client, client.stream("GET", "/") as answer:
        before = -1
        while server.peers[0].sent_bytes != before:
            before = server.peers[0].sent_bytes
            await asyncio.sleep(0.2)
        assert before < total // 2
        assert sum([len(chunk) async for chunk in answer.aiter_raw()]) == total


@pytest.mark.parametrize("streaming", [False, True])
async def test_leaving_in_mid_answer_closes_upstream(scene: Scene, streaming: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if streaming:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")
        await peer.until_closed()

    server = await scene.serve(script)
    async with client_of(f"http://127.0.0.1:{server.port}") as client:
        if streaming:
            async with client.stream("GET", "/") as answer:
                assert await anext(answer.aiter_raw()) == b"some"
        else:
            task = asyncio.create_task(client.get("/"))
            await until(lambda: server.accepted == 1)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        await until(lambda: server.peers[0].gone, 1)


async def test_faults_are_httpx2_s_own(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request is not None and b"/silent" in request.line:
            await peer.until_closed()
        elif request is not None and b"/cut" in request.line:
            await peer.send(OWN[:-1])
        elif request is not None and b"/stuck" in request.line:
            await peer.send(OWN[:-1])
            await peer.until_closed()
        else:
            await peer.send(b"nonsense\r\n")

    server = await scene.serve(script)
    timeouts = WireTimeouts(connect=5, first_byte=0.1, idle=0.1)
    async with client_of(f"http://127.0.0.1:{server.port}", timeouts) as client:
        for path, fault in {
            "/silent": httpx2.ReadTimeout,
            "/stuck": httpx2.ReadTimeout,
            "/cut": httpx2.RemoteProtocolError,
            "/nonsense": httpx2.RemoteProtocolError,
        }.items():
            with pytest.raises(fault) as caught:
                await client.get(path)
            assert caught.value.request.url.path == path
        await server.stop_listening()
        with pytest.raises(httpx2.ConnectError):
            await client.get("/")


async def test_what_came_before_a_fault_is_read_first(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OWN[:-1])

    server = await scene.serve(script)
    async with client_of(f"http://127.0.0.1:{server.port}") as client, client.stream("GET", "/") as answer:
        await until(lambda: server.peers[0].sent_bytes > 0)
        read = b""
        chunks = answer.aiter_raw()
        while len(read) < len(OWN_BODY) - 1:
            read += await anext(chunks)
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(chunks)
        assert read == OWN_BODY[:-1]


OTHERS = ["http://localhost:{port}/", "http://127.0.0.1:1/", "https://127.0.0.1:{port}/", "http://127.0.0.1/"]


@pytest.mark.parametrize("url", OTHERS)
async def test_another_origin_is_refused(scene: Scene, url: str) -> None:
    server = await scene.serve(canned(OWN))
    async with client_of(f"http://127.0.0.1:{server.port}") as client:
        with pytest.raises(httpx2.UnsupportedProtocol):
            await client.get(url.format(port=server.port))
    assert server.accepted == 0


async def test_what_would_not_be_one_request_is_refused(scene: Scene) -> None:
    server = await scene.serve(canned(OWN))
    async with client_of(f"http://127.0.0.1:{server.port}") as client:
        with pytest.raises(httpx2.UnsupportedProtocol):
            await client.head("/")
        with pytest.raises(httpx2.LocalProtocolError):
            await client.get("/", headers={"x-mine": "1\r\nx-forged: 2"})
        with pytest.raises(httpx2.LocalProtocolError):
            await client.request("GET /forged HTTP/1.1\r\nx:", "/")
    assert server.accepted == 0


async def test_fifty_at_once(scene: Scene) -> None:
    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            await peer.send(chunked(request.line.split()[1], request.body))

    server = await scene.serve(script)
    async with client_of(f"http://127.0.0.1:{server.port}") as client:

        async def ask(n: int) -> bytes:
            return (await client.post(f"/{n}", content=b":%d" % n)).content

        for _ in range(3):
            assert await asyncio.gather(*map(ask, range(50))) == [b"/%d:%d" % (n, n) for n in range(50)]
    assert server.accepted <= 50
