"""Issue 12, E3: IPv6 literals did not start, `/responses` was doubled, and a key was taken with its quotes."""

import ssl
from pathlib import Path

import pytest
import trustme

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK_STREAM
from tests.e2e.program import clean_environment, run
from tests.edges.fault_server import GOOD_BODY, FaultServer
from tests.upstream.raw_server import HeardRequest

KEY = "sk-or-v1-canary-of-a-quoted-key"


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_an_ipv6_literal(start_gateway: GatewayStarter, tmp_path_factory: pytest.TempPathFactory, secure: bool) -> None:
    authority = trustme.CA()
    ca_file = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("::1").configure_cert(context)
    upstream = FaultServer(host="::1", tls=context if secure else None)
    try:
        gateway = start_gateway(
            WEIGHBRIDGE_UPSTREAM_URL=f"{'https' if secure else 'http'}://[::1]:{upstream.port}/api/v1",
            WEIGHBRIDGE_UPSTREAM_CA_FILE=str(ca_file),
        )
        answer = gateway.post(ASK_STREAM)
        assert (answer.status, answer.body) == (200, GOOD_BODY)
        assert HeardRequest(upstream.heads[0], b"").values(b"host") == [b"[::1]:%d" % upstream.port]
        assert {record["upstream"] for record in gateway.records()} == {"::1"}
    finally:
        upstream.close()


def test_all_of_it_is_told_at_the_start(tmp_path: Path) -> None:
    env = clean_environment(
        tmp_path,
        WEIGHBRIDGE_UPSTREAM_URL="https://openrouter.ai/api/v1/responses",
        OPENROUTER_API_KEY=f'"{KEY}"',
        WEIGHBRIDGE_UPSTREAM_PROXY="http://user:hunter2@proxy.example.com:3128",
        WEIGHBRIDGE_UPSTREAM_CA_FILE=str(tmp_path / "missing.pem"),
    )
    done = run("serve", "--port", "0", env=env)
    assert done.returncode == 2
    faults = dict(line.split(": ", 1) for line in done.stderr.splitlines())
    assert faults == {
        "env OPENROUTER_API_KEY": "it has quotation marks around it; remove them",
        "env WEIGHBRIDGE_UPSTREAM_CA_FILE": f"cannot read {tmp_path / 'missing.pem'}: No such file or directory",
        "env WEIGHBRIDGE_UPSTREAM_PROXY": "must not hold the password: name the file that holds it by "
        "proxy_password_file",
        "env WEIGHBRIDGE_UPSTREAM_URL": "must be the base URL, without /responses at its end: Weighbridge adds that "
        "itself",
    }


@pytest.mark.parametrize("text", [f'"{KEY}"', f"'{KEY}'", f"`{KEY}`"])
def test_a_key_file_with_quotes(tmp_path: Path, text: str) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(text + "\n")
    key_file.chmod(0o600)
    env = clean_environment(tmp_path, OPENROUTER_API_KEY_FILE=str(key_file))
    done = run("config", "check", env=env)
    assert (done.returncode, KEY in done.stderr) == (2, False)
    assert "quotation marks" in done.stderr
