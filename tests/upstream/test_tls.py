"""The key goes only to who can prove to be the host that was named."""

import ssl

import pytest
import trustme

from app.domain.errors import UpstreamUnreachable
from app.upstream.wire.tls import tls_context
from tests.upstream.conftest import Certificates, Scene, empty
from tests.upstream.raw_server import HeardRequest, Peer, canned, chunked, sized

OWN = sized(b"own")
UNVERIFIED = "Upstream's certificate could not be verified."


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_calls_share_a_connection(scene: Scene, certificates: Certificates) -> None:
    heard: list[HeardRequest] = []
    script = canned(OWN, chunked(b"own"), OWN, heard=heard)
    server = await scene.serve(script, tls=certificates.server)
    wire = scene.wire(f"https://localhost:{server.port}", ca_file=certificates.ca_file)
    for _ in range(3):
        assert (await scene.ask(wire)).body == b"own"
    assert (server.accepted, wire.connections()["idle"], len(heard)) == (1, 1, 3)


@pytest.mark.parametrize("surplus", [b"x", b"\r\n", sized(b"foreign")])
@pytest.mark.parametrize("later", [False, True])
async def test_what_is_over_closes_it(scene: Scene, certificates: Certificates, surplus: bytes, later: bool) -> None:
    served: list[Peer] = []

    async def script(peer: Peer) -> None:
        served.append(peer)
        while await peer.request() is not None:
            if len(served) > 1:
                await peer.send(OWN)
            else:
                await peer.send(*([OWN, surplus] if later else [OWN + surplus]))

    server = await scene.serve(script, tls=certificates.server)
    wire = scene.wire(f"https://localhost:{server.port}", ca_file=certificates.ca_file)
    assert (await scene.ask(wire)).body == b"own"
    await empty(wire)
    assert (await scene.ask(wire)).body == b"own"
    assert server.accepted == 2


async def test_a_body_that_ends_with_the_connection(scene: Scene, certificates: Certificates) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n", b"one", b"two")

    server = await scene.serve(script, tls=certificates.server)
    wire = scene.wire(f"https://localhost:{server.port}", ca_file=certificates.ca_file)
    heard = await scene.ask(wire)
    assert (heard.body, heard.ended) == (b"onetwo", True)


@pytest.mark.parametrize("answered", [0, 1])
async def test_a_connection_closed_or_reset_breaks_the_call(
    scene: Scene, certificates: Certificates, answered: int
) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(answered):
            await peer.request()
            await peer.send(OWN)
        await peer.request()
        await peer.send(OWN[:-1])
        (peer.close if server.accepted % 2 else peer.reset)()

    server = await scene.serve(script, tls=certificates.server)
    wire = scene.wire(f"https://localhost:{server.port}", ca_file=certificates.ca_file)
    for _ in range(2):
        for _ in range(answered):
            assert (await scene.ask(wire)).ended
        heard = await scene.ask(wire)
        assert (heard.fault is not None, heard.ended, heard.retry_count) == (True, False, 0)


async def test_a_stranger_is_told_nothing(scene: Scene, certificates: Certificates) -> None:
    """A self-made certificate, one of another authority, one for another name: the handshake ends it."""
    heard: list[HeardRequest] = []
    stranger = trustme.CA()
    contexts = {
        "another authority": (server_context(stranger, "localhost"), certificates.ca_file),
        "no authority that the system knows": (certificates.server, None),
        "another address": (certificates.server, certificates.ca_file),
    }
    for why, (context, ca_file) in contexts.items():
        server = await scene.serve(canned(OWN, heard=heard), tls=context)
        host = "127.0.0.1" if why == "another address" else "localhost"
        wire = scene.wire(f"https://{host}:{server.port}", ca_file=ca_file)
        answer = await scene.ask(wire)
        assert isinstance(answer.fault, UpstreamUnreachable), why
        assert answer.fault.message == UNVERIFIED
        await empty(wire)
    assert heard == []


async def test_another_name_than_the_one_called(scene: Scene, certificates: Certificates) -> None:
    authority = trustme.CA()
    server = await scene.serve(canned(OWN), tls=server_context(authority, "upstream.example"))
    with authority.cert_pem.tempfile() as ca_file:
        answer = await scene.ask(scene.wire(f"https://localhost:{server.port}", ca_file=ca_file))
    assert isinstance(answer.fault, UpstreamUnreachable)
    assert answer.fault.message == UNVERIFIED


async def test_plain_http_behind_an_https_url(scene: Scene, certificates: Certificates) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await peer.until_closed()

    server = await scene.serve(script)
    answer = await scene.ask(scene.wire(f"https://localhost:{server.port}", ca_file=certificates.ca_file))
    assert isinstance(answer.fault, UpstreamUnreachable)
    assert answer.fault.message == "The TLS handshake with upstream failed."


def test_the_system_s_authorities_are_read_once() -> None:
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    known = context.cert_store_stats()
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert context.cert_store_stats() == known
