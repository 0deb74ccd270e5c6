"""Issue 12, E4: the environment decided whom TLS trusts and who gets its secrets; no way led through a proxy."""

import asyncio
import base64
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK_STREAM
from tests.e2e.program import Process, clean_environment, run
from tests.edges.fault_server import GOOD_BODY, FaultServer
from tests.upstream.raw_server import Peer

PASSWORD = "hunter2-of-the-proxy"
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
UNUSED = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "none.example",
}


@dataclass
class Secure:
    """An upstream with TLS, and the files of the authority that vouches for it."""

    server: FaultServer
    ca_file: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.port}/api/v1"


@pytest.fixture
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = FaultServer(tls=context)
    yield Secure(server, folder / "ca.pem", folder)
    server.close()


def test_variables_of_others_steer_nothing_and_are_told(start_gateway: GatewayStarter, secure: Secure) -> None:
    keys = secure.folder / "keys.log"
    variables = {**UNUSED, "SSL_CERT_FILE": str(secure.ca_file), "SSLKEYLOGFILE": str(keys)}
    variables["SSL_CERT_DIR"] = variables["REQUESTS_CA_BUNDLE"] = variables["CURL_CA_BUNDLE"] = str(secure.folder)
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=secure.url, **variables)
    answer = gateway.post(ASK_STREAM)
    assert (answer.status, answer.error_type) == (502, "upstream_unreachable")
    assert "certificate" in answer.json["error"]["message"]
    assert secure.server.heads == []
    for name, value in variables.items():
        (line,) = (line for line in gateway.process.err.splitlines() if name in _named(line))
        assert "in the environment: not used for upstream. " in line
        assert value not in gateway.process.err
    assert not keys.exists()


def _named(line: str) -> list[str]:
    """The variables that a warning names."""
    return re.findall(r"\w+", line.partition(" in the environment: ")[0])


def test_a_demo_has_no_upstream_to_warn_of(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, **UNUSED, SSL_CERT_FILE="/nowhere", OPENROUTER_API_KEY="short")
    demo = Process(("serve", "--demo", "--port", "0"), env, r"ready at (\S+)", tmp_path)
    assert demo.end() == 0
    assert "upstream. " not in demo.err
    assert "characters" not in demo.err


def test_one_of_several_workers_tells(start_gateway: GatewayStarter, postgres_url: str) -> None:
    gateway = start_gateway("--workers", "2", WEIGHBRIDGE_DATABASE_URL=postgres_url, NO_PROXY="none.example")
    assert gateway.has_logged("NO_PROXY in the environment: not used for upstream. ") == 1


def test_the_setting_decides(start_gateway: GatewayStarter, secure: Secure) -> None:
    keys = secure.folder / "keys.log"
    gateway = start_gateway(
        WEIGHBRIDGE_UPSTREAM_URL=secure.url,
        WEIGHBRIDGE_UPSTREAM_CA_FILE=str(secure.ca_file),
        SSL_CERT_FILE="/nowhere",
        SSLKEYLOGFILE=str(keys),
    )
    assert gateway.post(ASK_STREAM).body == GOOD_BODY
    assert not keys.exists()


@dataclass
class ConnectProxy:
    """A proxy that says `answer` to CONNECT and, if that is a yes, leads on. Made of a fault server."""

    server: FaultServer
    answer: bytes = OPENED
    heads: list[bytes] = field(default_factory=list)
    tunneled: list[bytes] = field(default_factory=list)

    async def __call__(self, peer: Peer) -> None:
        head = await peer.head()
        assert head is not None
        self.heads.append(head)
        await peer.send(self.answer)
        if not self.answer.endswith(OPENED):
            await peer.until_closed()
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))

        async def back() -> None:
            while data := await reader.read(65_536):
                await peer.send(data)

        returning = asyncio.ensure_future(back())
        try:
            while data := await peer.some():
                self.tunneled.append(data)
                writer.write(data)
        finally:
            writer.close()
            returning.cancel()


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    proxy = ConnectProxy(FaultServer())
    with proxy.server.greeted(proxy):
        yield proxy
    proxy.server.close()


def behind(proxy: ConnectProxy, secure: Secure, password: str = PASSWORD) -> dict[str, str]:
    """The environment of a gateway whose upstream is reached through the proxy."""
    password_file = secure.folder / "password"
    password_file.write_text(password + "\n")
    password_file.chmod(0o600)
    return {
        "WEIGHBRIDGE_UPSTREAM_URL": secure.url,
        "WEIGHBRIDGE_UPSTREAM_CA_FILE": str(secure.ca_file),
        "WEIGHBRIDGE_UPSTREAM_PROXY": f"http://us%40er@127.0.0.1:{proxy.server.port}",
        "WEIGHBRIDGE_UPSTREAM_PROXY_PASSWORD_FILE": str(password_file),
        "WEIGHBRIDGE_CONNECT_TIMEOUT": "0.7",
    }


def test_a_call_goes_through_the_proxy(
    start_gateway: GatewayStarter, proxy: ConnectProxy, secure: Secure, canary_key: str
) -> None:
    gateway = start_gateway(**behind(proxy, secure))
    gateway.secrets["proxy password"] = PASSWORD
    for _ in range(2):
        answer = gateway.post(ASK_STREAM)
        assert (answer.status, answer.body) == (200, GOOD_BODY)
    login = base64.b64encode(f"us@er:{PASSWORD}".encode())
    authority = b"localhost:%d" % secure.server.port
    assert proxy.heads == [
        b"CONNECT %b HTTP/1.1\r\nhost: %b\r\nproxy-authorization: Basic %b\r\n\r\n" % (authority, authority, login)
    ], "one tunnel carries both calls"
    assert canary_key.encode() not in b"".join(proxy.tunneled), "TLS is with upstream, not with the proxy"
    assert all(b"proxy-" not in head for head in secure.server.heads)
    shown = gateway.command("config", "show").stdout
    assert PASSWORD not in shown
    assert gateway.admin("GET", "/upstream?spending=true").status == 200
    assert len(proxy.heads) == 2, "other routes of upstream are asked through the proxy, too"


def test_the_password_may_stand_in_a_variable(
    start_gateway: GatewayStarter, proxy: ConnectProxy, secure: Secure
) -> None:
    env = behind(proxy, secure)
    del env["WEIGHBRIDGE_UPSTREAM_PROXY_PASSWORD_FILE"]
    gateway = start_gateway(**env, WEIGHBRIDGE_UPSTREAM_PROXY_PASSWORD=PASSWORD)
    gateway.secrets["proxy password"] = PASSWORD  # which is looked for in the process's environment, too
    assert gateway.post(ASK_STREAM).body == GOOD_BODY
    assert base64.b64encode(f"us@er:{PASSWORD}".encode()) in proxy.heads[0]


REFUSALS = {
    "credentials": (b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n", "(HTTP 407, it wants other credentials)"),
    "forbidden": (b"HTTP/1.0 403 Forbidden\r\n\r\n<html>", "(HTTP 403)"),
    "redirect": (b"HTTP/1.1 302 Login\r\nlocation: http://x/\r\n\r\n", "(HTTP 302)"),
    "not HTTP": (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
    "too large": (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40_000, "too large"),
    "surplus": (OPENED + b"x", "after its answer's head"),
    "silence": (b"HTTP/1.1 200 OK\r\n", "took too long"),
    "interim for ever": (b"HTTP/1.1 103 Early\r\n\r\n" * 2000, "too large"),
}


def test_a_proxy_that_refuses(start_gateway: GatewayStarter, proxy: ConnectProxy, secure: Secure) -> None:
    gateway = start_gateway(**behind(proxy, secure))
    for name, (said, reason) in REFUSALS.items():
        proxy.answer = said
        answer = gateway.post(ASK_STREAM)
        assert (answer.status, answer.error_type) == (502, "upstream_unreachable"), name
        assert reason in answer.json["error"]["message"], name
        assert gateway.record(answer.json["error"]["metadata"]["request_id"])["usage_source"] == "none"
    assert secure.server.heads == []


def test_an_interim_answer_of_the_proxy(start_gateway: GatewayStarter, proxy: ConnectProxy, secure: Secure) -> None:
    proxy.answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" + OPENED
    assert start_gateway(**behind(proxy, secure)).post(ASK_STREAM).body == GOOD_BODY


def test_a_proxy_that_hangs_up_or_is_not_there(
    start_gateway: GatewayStarter, proxy: ConnectProxy, secure: Secure
) -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.head()
        peer.close()

    gateway = start_gateway(**behind(proxy, secure))
    greeting: Callable[[Peer], Awaitable[None]] = hang_up
    with proxy.server.greeted(greeting):
        assert "The proxy closed the connection" in gateway.post(ASK_STREAM).json["error"]["message"]
    proxy.server.run(proxy.server._server.stop_listening())
    assert "The proxy in front of upstream refused" in gateway.post(ASK_STREAM).json["error"]["message"]


def test_through_a_proxy_nothing_is_sent_again(
    start_gateway: GatewayStarter, proxy: ConnectProxy, secure: Secure
) -> None:
    """How long connecting to the proxy took says nothing about the way from there to upstream."""
    served: list[bytes] = []

    async def close_at_the_second(peer: Peer) -> None:
        head = await peer.head()
        assert head is not None
        await peer.body(head)
        served.append(head)
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        assert await peer.request() is not None
        served.append(head)

    gateway = start_gateway(**behind(proxy, secure))
    with secure.server.greeted(close_at_the_second):
        assert gateway.post(ASK_STREAM).status == 200
        answer = gateway.post(ASK_STREAM)
    assert (answer.status, answer.error_type) == (502, "upstream_protocol_error")
    assert len(served) == 2


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    env = clean_environment(
        tmp_path,
        WEIGHBRIDGE_UPSTREAM_URL="http://127.0.0.1:9/v1",
        WEIGHBRIDGE_UPSTREAM_PROXY="http://proxy.example.com:3128",
        WEIGHBRIDGE_UPSTREAM_PROXY_PASSWORD=PASSWORD,
    )
    done = run("config", "check", env=env)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "env WEIGHBRIDGE_UPSTREAM_PROXY: must not be set for an upstream on this machine: it is reached without a proxy"
    ]
    done = run("config", "check", env=env | {"WEIGHBRIDGE_UPSTREAM_URL": "https://openrouter.ai/api/v1"})
    assert "env WEIGHBRIDGE_UPSTREAM_PROXY_PASSWORD: needs a proxy with a user name" in done.stderr
    assert PASSWORD not in done.stderr
