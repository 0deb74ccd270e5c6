"""nginx and Caddy with our configuration, in front of the program: every event passes at once, every byte as it is."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from tests.deploy.containers import free_port
from tests.deploy.manifests import DEPLOY
from tests.e2e.client import ASK_STREAM, SECONDS, opened
from tests.e2e.program import Gateway, clean_environment, eventually
from tests.e2e.replay import ReplayUpstream, stream
from tests.e2e.samples import wire
from tests.tools import needed

PROXY = DEPLOY / "proxy"
Start = Callable[[Path, str], tuple[list[str], dict[str, str], str]]


def nginx(folder: Path, backend: str) -> tuple[list[str], dict[str, str], str]:
    """Its command, environment and address. The configuration is ours but for names, and takes plain HTTP as well."""
    program = needed("nginx")
    certificate = trustme.CA().issue_cert("gateway.example.com")
    certificate.private_key_pem.write_to_path(folder / "privkey.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "fullchain.pem")
    port = free_port()
    site = (PROXY / "nginx.conf").read_text()
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port}; listen 127.0.0.1:{free_port()} ssl;"),
        ("127.0.0.1:8787", backend),
        ("/etc/ssl/weighbridge", str(folder)),
    ):
        assert old in site
        site = site.replace(old, new)
    places = [f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    http = "\n".join([f"access_log off; error_log {folder}/error.log;", *places, site])
    whole = f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\nhttp {{\n{http}\n}}\n"
    (folder / "nginx.conf").write_text(whole)
    user = ["-g", f"user {os.environ.get('USER') or 'root'};"] if os.getuid() == 0 else []
    return [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), *user], {}, f"http://127.0.0.1:{port}"


def caddy(folder: Path, backend: str) -> tuple[list[str], dict[str, str], str]:
    program = str(Path(sys.executable).with_name("caddy"))
    host, _, port = backend.partition(":")
    address = f"http://127.0.0.1:{free_port()}"
    env = {"GATEWAY_DOMAIN": address, "GATEWAY_BACKEND": host, "GATEWAY_BACKEND_PORT": port}
    return [program, "run", "--config", str(PROXY / "Caddyfile"), "--adapter", "caddyfile"], env, address


@pytest.fixture(scope="module", params=[nginx, caddy], ids=lambda start: start.__name__)
def address(
    request: pytest.FixtureRequest, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where the proxy is."""
    folder = tmp_path_factory.mktemp("proxy")
    start: Start = request.param
    command, env, url = start(folder, urlsplit(gateway.url).netloc)
    output = folder / "output"
    with ExitStack() as stack:
        file = stack.enter_context(output.open("wb"))
        proxy = subprocess.Popen(command, env=clean_environment(folder, **env), stdout=file, stderr=file, cwd=folder)
        stack.callback(proxy.wait, SECONDS)
        stack.callback(proxy.terminate)

        def listening() -> bool:
            assert proxy.poll() is None, output.read_text() + (folder / "error.log").read_text()
            with socket.socket() as caller:
                return caller.connect_ex((urlsplit(url).hostname, urlsplit(url).port)) == 0

        eventually(listening, "the proxy")
        yield url


def test_events_pass_one_by_one_and_byte_for_byte(address: str, gateway: Gateway, replay: ReplayUpstream) -> None:
    body = wire("01-openai-completed")
    script = stream(body, [match.end() for match in re.finditer(rb"\n\n", body)][:-1])
    script.lockstep = True  # a piece leaves upstream once the one before it has come through
    with opened(f"{address}/api/v1/responses", gateway.key, ASK_STREAM, replay.play(script)) as call:
        while call.read():
            script.arrived(len(call.answer.body))
    assert (call.answer.status, call.answer.body, call.answer.whole) == (200, body, True)
    assert call.answer.value("content-encoding") is None


def test_a_client_that_leaves_is_gone_for_upstream(address: str, gateway: Gateway, replay: ReplayUpstream) -> None:
    script = stream(wire("47-cut-before-terminal"), ending="hold")
    with opened(f"{address}/api/v1/responses", gateway.key, ASK_STREAM, replay.play(script)) as call:
        assert call.read()
    assert script.wait_for_call().gone.wait(SECONDS)


def test_what_is_for_operators_stays_inside(address: str, gateway: Gateway) -> None:
    for path in ("/metrics", "/admin/api/keys", "/readyz"):
        with opened(address + path, gateway.admin_key, method="GET") as call:
            assert call.rest().status == 404
    with opened(f"{address}/healthz", None, method="GET") as call:
        assert call.rest().status == 200


def test_a_large_body_passes(address: str, gateway: Gateway, replay: ReplayUpstream) -> None:
    script = stream(wire("01-openai-completed"))
    asked = {**ASK_STREAM, "input": "x" * 20_000_000}
    with opened(f"{address}/v1/responses", gateway.key, asked, replay.play(script)) as call:
        assert call.rest().status == 200
    assert len(script.seen[0].body) > 20_000_000
