"""Issue 12, E5: headers towards upstream were a deny-list, and what steers other gateways crossed beside our key."""

from pathlib import Path

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK
from tests.e2e.program import clean_environment, run
from tests.e2e.replay import ReplayUpstream, document

STEERING = {
    "X-Portkey-Custom-Host": "https://evil.example",
    "Helicone-Target-Url": "https://evil.example",
    "X-Http-Method-Override": "DELETE",
    "X_Api_Key": "value-of-a-key",
    "X-Tenant": "value-of-a-tenant",
    "X-Tenant-Secret": "value-of-a-secret",
}


def test_only_listed_headers_cross_and_others_are_told_once(
    start_gateway: GatewayStarter, replay: ReplayUpstream
) -> None:
    gateway = start_gateway()
    script = document(b"{}")
    for _ in range(2):
        assert gateway.post(ASK, {**STEERING, "X-Title": "mine", **replay.play(script)}).status == 200
    for seen in script.seen:
        assert {name for name, _ in seen.headers} == {
            *("host", "authorization", "accept-encoding", "content-type", "content-length"),
            *("x-title", "x-replay"),
        }
    for name, value in STEERING.items():
        assert gateway.has_logged(f"is not forwarded: {name.lower()} ") == 1
        assert value not in gateway.process.err


def test_an_operator_adds_names_but_no_credentials(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_PASS_HEADERS="x-replay, X-Tenant*")
    script = document(b"{}")
    assert gateway.post(ASK, {**STEERING, **replay.play(script)}).status == 200
    assert script.seen[0].value("x-tenant") == "value-of-a-tenant"
    assert script.seen[0].value("x-tenant-secret") is None
    assert script.seen[0].value("helicone-target-url") is None


def test_a_credential_that_is_named_is_a_fault(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_UPSTREAM_PASS_HEADERS="x-tenant,Cookie", OPENROUTER_API_KEY="sk-or")
    done = run("serve", "--port", "0", env=env)
    assert done.returncode == 2
    assert "env WEIGHBRIDGE_UPSTREAM_PASS_HEADERS: must not name credentials" in done.stderr
