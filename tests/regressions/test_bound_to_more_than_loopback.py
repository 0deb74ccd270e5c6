"""Issue 12, F3 and E15: who binds to every address is told which ones work, and callers may use them."""

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.serve.own_addresses import own_addresses, own_name
from app.web.connection.request_rules import host_name, is_address
from tests.e2e.client import opened
from tests.e2e.program import Gateway, clean_environment, run
from tests.e2e.replay import ReplayUpstream

EVERYWHERE = "0.0.0.0"  # noqa: S104 - as people do
AN_ADDRESS = "10.1.2.3:8787"


def asked(gateway: Gateway, **headers: str) -> tuple[int, str]:
    """Status and message of the caller's own key, asked for with these headers."""
    with opened(f"{gateway.url}/api/v1/key", gateway.key, headers=headers, method="GET") as call:
        answer = call.rest()
        return answer.status, "" if answer.status == 200 else answer.json["error"]["message"]


@pytest.fixture(scope="module")
def everywhere(replay: ReplayUpstream, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("everywhere")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=replay.url, WEIGHBRIDGE_HOST=EVERYWHERE) as running:
        yield running


def test_the_addresses_that_work_are_printed(everywhere: Gateway) -> None:
    first, *rest = re.findall(r"http://(\S+):(\d+)(?:\n|$)", everywhere.process.out.split("Upstream")[0])
    assert first[0] == "127.0.0.1"
    assert [host for host, _ in rest] == own_addresses(socket.AF_INET)
    for host, port in rest:
        with opened(f"http://{host}:{port}/api/v1/key", everywhere.key, method="GET") as call:
            assert call.rest().status == 200


def test_callers_may_use_an_address_or_the_machines_name(everywhere: Gateway) -> None:
    for host in (AN_ADDRESS, "[2001:db8::7]:8787", own_name(), f"{own_name().upper()}:8787", "localhost"):
        assert asked(everywhere, host=host)[0] == 200, host


@pytest.mark.parametrize(
    "host", ["evil.example", "10.1.2.3.evil.example", "10.1.2", "0x0a.1.2.3", "010.1.2.3", "167838211", "2001:db8::7"]
)
def test_no_other_name_is_answered_to(everywhere: Gateway, host: str) -> None:
    status, message = asked(everywhere, host=host)
    assert status == 421
    assert "server.allowed_hosts" in message
    assert "WEIGHBRIDGE_ALLOWED_HOSTS" in message


def test_pages_of_other_origins_may_not_call_all_the_same(everywhere: Gateway) -> None:
    assert asked(everywhere, host=AN_ADDRESS, origin=f"http://{AN_ADDRESS}")[0] == 200
    for origin in ("http://evil.example", "http://10.1.2.3", "http://10.1.2.4:8787", "null", f"http://{own_name()}"):
        assert asked(everywhere, host=AN_ADDRESS, origin=origin)[0] == 403, origin


def test_on_loopback_an_address_is_no_host_of_ours(gateway: Gateway) -> None:
    assert "Also at" not in gateway.process.out
    for host in (AN_ADDRESS, own_name()):
        assert asked(gateway, host=host)[0] == 421


def test_what_is_an_address() -> None:
    for host in (b"10.1.2.3", b"10.1.2.3:80", b"[::1]", b"[2001:db8::1]:80", b"[::ffff:10.1.2.3]"):
        assert is_address(host_name(host)), host
    for host in (b"", b"::1", b"[10.1.2.3]", b"[::1", b"10.1.2.3.4", b"1e1.0.0.1", b"[fe80::1%eth0]", b"\xb2.1.1.1"):
        assert not is_address(host_name(host)), host


WITHOUT_IPV6 = """
import errno, os, socket
real = socket.socket.__init__
def init(self, family=-1, *rest, **more):
    if family == socket.AF_INET6:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    real(self, family, *rest, **more)
socket.socket.__init__ = init
"""


@pytest.mark.parametrize(
    ("host", "said"),
    [("::", "cannot listen on [::]:8787"), ("::1", "This machine may have no IPv6"), ("x.invalid", "x.invalid")],
)
def test_an_address_that_cannot_be_had_is_a_sentence(tmp_path: Path, host: str, said: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_IPV6)
    env = clean_environment(
        tmp_path,
        PYTHONPATH=os.pathsep.join((str(tmp_path), str(Path.cwd()))),
        WEIGHBRIDGE_HOST=host,
        WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"),
        OPENROUTER_API_KEY="sk-or-v1-of-nobody-at-all",
        WEIGHBRIDGE_LOG_LEVEL="error",
    )
    done = run("serve", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("weighbridge: cannot listen on ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
