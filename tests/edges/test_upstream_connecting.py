"""Faults before anything was sent: refused, deaf, TLS of every wrong kind. Each is 502 and costs nothing."""

import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.program import Gateway
from tests.edges.fault_server import GOOD_BODY, FaultServer, deaf_port
from tests.edges.raw_client import Heard, ours, request, say
from tests.upstream.raw_server import Peer, sized

CONNECT_SECONDS = 0.7
AT_ONCE_SECONDS = 2.0
Greeting = Callable[[Peer], Awaitable[None]]


def unreachable(gateway: Gateway, message: str) -> Heard:
    """A call that must fail before anything is sent."""
    heard = say(gateway.url, request(gateway.key))
    assert (heard.only.status, heard.only.error_type) == (502, "upstream_unreachable")
    assert message in ours(heard.only)["message"]
    record = gateway.record(heard.only.request_id)
    expected = {"outcome": "upstream_error", "http_status": 502, "error_type": "upstream_unreachable"}
    expected |= {"usage_source": "none", "retry_count": 0, "bytes_out": 0}
    assert {name: record[name] for name in expected} == expected
    return heard


@pytest.fixture(scope="module")
def nowhere(canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, int]]:
    """A gateway and the port at which its upstream is not."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Gateway(
        tmp_path_factory.mktemp("nowhere"),
        canary_key,
        WEIGHBRIDGE_UPSTREAM_URL=f"http://127.0.0.1:{port}/api/v1",
        WEIGHBRIDGE_CONNECT_TIMEOUT=f"{CONNECT_SECONDS:g}s",
    ) as running:
        yield running, port


def test_refused_and_well_again_once_upstream_is_there(nowhere: tuple[Gateway, int]) -> None:
    gateway, port = nowhere
    for _ in range(3):
        assert unreachable(gateway, "refused the connection").seconds < AT_ONCE_SECONDS
    server = FaultServer(port=port)
    try:
        assert say(gateway.url, request(gateway.key)).only.body == GOOD_BODY
    finally:
        server.close()
    unreachable(gateway, "refused the connection")


def test_deaf(canary_key: str, tmp_path: Path) -> None:
    with deaf_port() as port:
        timeout = {"WEIGHBRIDGE_CONNECT_TIMEOUT": f"{CONNECT_SECONDS:g}s"}
        url = f"http://127.0.0.1:{port}/api/v1"
        with Gateway(tmp_path, canary_key, WEIGHBRIDGE_UPSTREAM_URL=url, **timeout) as gateway:
            heard = unreachable(gateway, "took too long")
            assert CONNECT_SECONDS <= heard.seconds < CONNECT_SECONDS + AT_ONCE_SECONDS


async def close_at_once(peer: Peer) -> None:
    peer.hang_up()


async def reset_at_once(peer: Peer) -> None:
    peer.reset()


async def answer_unasked(peer: Peer) -> None:
    """As a proxy does that is too busy to listen."""
    await peer.send(sized(b'{"error":"busy"}', b"content-type: application/json", status=b"408 Too slow"))


@pytest.mark.parametrize("greeting", [close_at_once, reset_at_once], ids=lambda greeting: greeting.__name__)
def test_a_connection_that_ends_as_it_begins(edge: Gateway, fault_server: FaultServer, greeting: Greeting) -> None:
    """Whether anything was sent is a race, so either word for it will do; asking again will not."""
    last = sized(b"{}", b"content-type: application/json", b"connection: close")
    assert say(edge.url, request(edge.key, headers=fault_server.answer(last))).only.whole
    before = fault_server.accepted
    with fault_server.greeted(greeting):
        heard = say(edge.url, request(edge.key))
    assert heard.only.status == 502
    assert heard.only.error_type in ("upstream_unreachable", "upstream_protocol_error")
    assert edge.record(heard.only.request_id)["outcome"] == "upstream_error"
    assert (fault_server.accepted - before, heard.seconds < AT_ONCE_SECONDS) == (1, True)
    assert say(edge.url, request(edge.key)).only.body == GOOD_BODY


def test_an_answer_nobody_asked_for_goes_to_one_caller_at_most(edge: Gateway, fault_server: FaultServer) -> None:
    last = sized(b"{}", b"content-type: application/json", b"connection: close")
    assert say(edge.url, request(edge.key, headers=fault_server.answer(last))).only.whole
    with fault_server.greeted(answer_unasked):
        heard = say(edge.url, request(edge.key))
    assert heard.only.status in (408, 502)
    assert edge.record(heard.only.request_id)["outcome"] == "upstream_error"
    assert say(edge.url, request(edge.key)).only.body == GOOD_BODY


class Secure:
    """A gateway that trusts one authority, and an upstream port behind which a test puts what it likes."""

    def __init__(self, folder: Path, canary_key: str) -> None:
        self.authority = trustme.CA()
        self.server = FaultServer()
        trusted = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(trusted))
        self.gateway = Gateway(
            folder,
            canary_key,
            WEIGHBRIDGE_UPSTREAM_URL=f"https://localhost:{self.server.port}/api/v1",
            WEIGHBRIDGE_UPSTREAM_CA_FILE=str(trusted),
            WEIGHBRIDGE_CONNECT_TIMEOUT=f"{CONNECT_SECONDS:g}s",
        )

    def close(self) -> None:
        self.gateway.close()
        self.server.close()


@pytest.fixture(scope="module")
def secure(canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    secure = Secure(tmp_path_factory.mktemp("secure"), canary_key)
    yield secure
    secure.close()


def shaking(context: ssl.SSLContext) -> Greeting:
    """Do the handshake by hand, then answer whatever is asked."""

    async def greet(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        done = False
        while True:
            try:
                if not done:
                    tls.do_handshake()
                    done = True
                asked = tls.read(65_536)
                if asked:
                    tls.write(sized(GOOD_BODY, b"content-type: text/event-stream", b"connection: close"))
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                await peer.send(outgoing.read())
                return
            if outgoing.pending:
                await peer.send(outgoing.read())
            came = await peer.some()
            if not came:
                return
            incoming.write(came)

    return greet


def context_for(authority: trustme.CA, *names: str, **more: Any) -> ssl.SSLContext:  # noqa: ANN401 - trustme's own
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **more).configure_cert(context)
    return context


def old(context: ssl.SSLContext) -> ssl.SSLContext:
    """A server of ten years ago."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


async def speak_plainly(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    await peer.until_closed()


async def say_nothing(peer: Peer) -> None:
    await peer.until_closed()


async def alert(peer: Peer) -> None:
    await peer.some()
    await peer.send(b"\x15\x03\x03\x00\x02\x02\x28")


async def hang_up_in_the_handshake(peer: Peer) -> None:
    await peer.some()
    peer.close()


async def reset_in_the_handshake(peer: Peer) -> None:
    await peer.some()
    peer.reset()


def test_tls_of_the_right_kind(secure: Secure) -> None:
    with secure.server.greeted(shaking(context_for(secure.authority, "localhost"))):
        assert say(secure.gateway.url, request(secure.gateway.key)).only.body == GOOD_BODY


CERTIFICATE = "certificate could not be verified"
TLS = "TLS handshake with upstream failed"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("another authority's", CERTIFICATE),
        ("another name's", CERTIFICATE),
        ("expired", CERTIFICATE),
        ("too old", TLS),
        ("plain HTTP", TLS),
        ("alert", TLS),
        ("silence", "took too long"),
        ("hang up", ""),
        ("reset", ""),
    ],
)
def test_tls_of_a_wrong_kind(secure: Secure, fault: str, message: str) -> None:
    ended = datetime(2020, 1, 1, tzinfo=UTC)
    greetings: dict[str, Greeting] = {
        "another authority's": shaking(context_for(trustme.CA(), "localhost")),
        "another name's": shaking(context_for(secure.authority, "elsewhere.example")),
        "expired": shaking(context_for(secure.authority, "localhost", not_after=ended)),
        "too old": shaking(old(context_for(secure.authority, "localhost"))),
        "plain HTTP": speak_plainly,
        "alert": alert,
        "silence": say_nothing,
        "hang up": hang_up_in_the_handshake,
        "reset": reset_in_the_handshake,
    }
    with secure.server.greeted(greetings[fault]):
        heard = unreachable(secure.gateway, message)
    assert heard.seconds < CONNECT_SECONDS + AT_ONCE_SECONDS
    assert secure.server.heads == [], "a request went to whom nobody trusts"
