"""`doctor`: one line a check, red where something does not work, and nothing billed unless asked for."""

import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from app.cli.doctor import codex, sdks
from app.cli.doctor.finding import Finding, State
from app.cli.doctor.handshake import RunningGateway as AsClient
from app.cli.doctor.machine import check_clock, check_disk_space, check_state_directory
from app.cli.doctor.price_book import newest_date
from tests.cli.stand_in import Reply, Tunnels, standing_in
from tests.conftest import GatewayStarter
from tests.e2e.program import Gateway, Mock, Process, clean_environment, run
from tests.store.valkey_server import ValkeyServer

NOT_SERVED_YET = {"codex websocket", "codex compact"}
"""Amber as long as the gateway has no such route."""


def found(folder: Path, env: dict[str, str], *arguments: str, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    """What doctor finds where no server runs, by check."""
    done = run("doctor", *arguments, "--json", env=clean_environment(folder, **env))
    assert done.returncode == exit_code, done.stdout + done.stderr
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


def spent(mock: Mock) -> float:
    total: float = mock.get("/api/v1/credits")["data"]["total_usage"]
    return total


def test_a_gateway_that_works(mocked: Gateway, mock_process: Mock) -> None:
    before = spent(mock_process)
    findings = mocked.json_of("doctor")
    assert [list(finding) for finding in findings] == [["check", "state", "detail", "next"]] * len(findings)
    states = {finding["check"]: finding["state"] for finding in findings}
    assert {check for check, state in states.items() if state == "warn"} <= NOT_SERVED_YET
    assert "fail" not in states.values()
    assert {"settings", "database", "redis", "clock", "price book", "gateway", "codex zstd", "agents"} <= set(states)
    assert spent(mock_process) == before
    lines = mocked.command("doctor").stdout.splitlines()
    assert [line[6:].partition("  ")[0] for line in lines] == list(states)


def test_no_call_of_it_goes_upstream_and_its_key_ends(mocked: Gateway) -> None:
    mocked.command("doctor")
    records = [record for record in mocked.records() if record["client"] == "doctor"]
    assert {record["outcome"] for record in records} <= {"rejected", "client_closed"}
    assert {(record["total_tokens"], record["cost_usd"]) for record in records} == {(None, None)}
    keys = [key for key in mocked.admin("GET", "/keys").json["keys"] if key["client"] == "doctor"]
    assert {(key["state"], key["label"]) for key in keys} == {("revoked", "doctor")}


def test_a_client_of_it_that_was_deleted_is_brought_back(mocked: Gateway) -> None:
    mocked.command("doctor")
    mocked.command("clients", "delete", "doctor")
    assert "codex zstd" in {finding["check"] for finding in mocked.json_of("doctor")}


def test_spending(mocked: Gateway, mock_process: Mock) -> None:
    before = spent(mock_process)
    states = {finding["check"]: finding["state"] for finding in mocked.json_of("doctor", "--spend")}
    assert [states[f"paid {what}"] for what in ("answer", "stream", "hang-up")] == ["ok", "ok", "ok"]
    assert spent(mock_process) > before


def test_upstream_only(mocked: Gateway) -> None:
    checks = [finding["check"] for finding in mocked.json_of("doctor", "--upstream-only")]
    assert checks[0] == "settings"
    assert [check.partition(": ")[2] for check in checks[1:]] == ["name", "connection", "latency", "key"]


def test_limits_that_new_clients_get_are_not_what_it_finds(start_gateway: GatewayStarter, tmp_path: Path) -> None:
    (tmp_path / "strict.toml").write_text("[client_defaults]\nrpm = 1\nconcurrency = 1\n")
    gateway = start_gateway("--config", str(tmp_path / "strict.toml"))
    findings = gateway.json_of("doctor", "--config", str(tmp_path / "strict.toml"))
    assert {f["check"] for f in findings if f["state"] == "warn"} <= NOT_SERVED_YET | {
        f"upstream {_host(gateway)}: key"
    }


def _host(gateway: Gateway) -> str:
    name: str = gateway.admin("GET", "/upstream").json["name"]
    return name


def test_pages_that_may_call(start_gateway: GatewayStarter) -> None:
    origin = "https://app.example.com"
    gateway = start_gateway(WEIGHBRIDGE_ALLOWED_ORIGINS=origin)
    gateway.env["WEIGHBRIDGE_ALLOWED_ORIGINS"] = origin
    (finding,) = [f for f in gateway.json_of("doctor") if f["check"] == "browser preflight"]
    assert (finding["state"], finding["detail"]) == ("ok", f"pages of {origin} may call")


def test_a_server_that_does_not_let_it_in(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    gateway.env["WEIGHBRIDGE_ADMIN_KEY"] = "not-the-key-of-this-server"
    findings = json.loads(gateway.command("doctor", "--json", exit_code=1).stdout)
    assert [(f["check"], f["state"]) for f in findings] == [("settings", "ok"), ("admin API", "fail")]


# -- without a server ----------------------------------------------------------------------------------------------


def test_before_the_first_start(tmp_path: Path, mock_process: Mock, canary_key: str) -> None:
    env = {"WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1", "WEIGHBRIDGE_UPSTREAM_KEY": canary_key}
    findings = found(tmp_path, env)
    assert {check for check, finding in findings.items() if finding["state"] != "ok"} == {"gateway"}
    assert findings["gateway"]["next"] == "start one with `weighbridge serve`"
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_upstream_refuses(tmp_path: Path, mock_process: Mock) -> None:
    url = f"{mock_process.url}/api/v1"
    env = {"WEIGHBRIDGE_UPSTREAM_URL": url, "WEIGHBRIDGE_UPSTREAM_KEY": "sk-or-v1-wrong-one"}
    (finding,) = [f for name, f in found(tmp_path, env, exit_code=1).items() if name.endswith(": key")]
    assert (finding["state"], "HTTP 401" in finding["detail"]) == ("fail", True)
    assert finding["next"]


@pytest.mark.parametrize(
    ("env", "check", "said"),
    [
        ({"WEIGHBRIDGE_PORT": "x"}, "settings", "env WEIGHBRIDGE_PORT: must be"),
        ({}, "upstream openrouter: key", "there is no upstream key"),
        ({"WEIGHBRIDGE_UPSTREAM_URL": "http://127.0.0.1:9"}, "upstream 127.0.0.1: connection", "refused"),
        (
            {"WEIGHBRIDGE_UPSTREAM_URL": "https://gateway.invalid"},
            "upstream gateway.invalid: name",
            "gateway.invalid: ",
        ),
        ({"WEIGHBRIDGE_REDIS_URL": "redis://127.0.0.1:9"}, "redis", ""),
        ({"WEIGHBRIDGE_DATABASE_URL": "postgresql://127.0.0.1:9/x?connect_timeout=2"}, "database", ""),
    ],
    ids=["settings", "no key", "refused", "no name", "redis", "postgres"],
)
def test_what_is_red(tmp_path: Path, env: dict[str, str], check: str, said: str) -> None:
    finding = found(tmp_path, env, exit_code=1)[check]
    assert finding["state"] == "fail"
    assert said in finding["detail"]
    assert finding["next"]


def test_redis(tmp_path: Path, valkey: ValkeyServer, mock_process: Mock, canary_key: str) -> None:
    env = {"WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1", "WEIGHBRIDGE_UPSTREAM_KEY": canary_key}
    assert found(tmp_path, {**env, "WEIGHBRIDGE_REDIS_URL": valkey.url(0)})["redis"]["detail"] == "it answers"


def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with standing_in(lambda *_: (200, {}, b'{"data": []}'), server) as url:
        env = {"WEIGHBRIDGE_UPSTREAM_URL": url, "WEIGHBRIDGE_UPSTREAM_KEY": "sk-of-an-upstream"}
        red = found(tmp_path, env, "--upstream-only", exit_code=1)["upstream localhost: tls"]
        green = found(tmp_path, {**env, "WEIGHBRIDGE_UPSTREAM_CA_FILE": str(tmp_path / "ca.pem")}, "--upstream-only")
    assert (red["state"], "CA_FILE" in red["next"]) == ("fail", True)
    assert {finding["state"] for finding in green.values()} == {"ok"}


def test_the_way_through_a_proxy(tmp_path: Path) -> None:
    """The name of the upstream is the proxy's business, and so it need not be known here."""
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("upstream.invalid").configure_cert(server)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    env = {
        "WEIGHBRIDGE_UPSTREAM_URL": "https://upstream.invalid/v1",
        "WEIGHBRIDGE_UPSTREAM_KEY": "sk-of-an-upstream",
        "WEIGHBRIDGE_UPSTREAM_CA_FILE": str(tmp_path / "ca.pem"),
        "WEIGHBRIDGE_UPSTREAM_PROXY_PASSWORD": "a-password-of-the-proxy",
    }
    with standing_in(lambda *_: (200, {}, b'{"data": []}'), server) as url, Tunnels(int(url.rpartition(":")[2])) as way:
        env["WEIGHBRIDGE_UPSTREAM_PROXY"] = f"http://me@{way.url}"
        findings = found(tmp_path, env, "--upstream-only")
    assert {finding["state"] for finding in findings.values()} == {"ok"}
    assert all(head.startswith(b"CONNECT upstream.invalid:443 ") for head in way.asked)
    assert all(b"roxy-authorization: basic " in head.lower() for head in way.asked)
    assert len(way.asked) >= 2  # the visit, and the question about the key


def test_what_a_start_would_warn_of(tmp_path: Path, mock_process: Mock, canary_key: str) -> None:
    env = {"WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1", "WEIGHBRIDGE_UPSTREAM_KEY": canary_key}
    finding = found(tmp_path, {**env, "HTTPS_PROXY": "http://127.0.0.1:9"}, "--upstream-only")["settings"]
    assert (finding["state"], "HTTPS_PROXY in the environment" in finding["detail"]) == ("warn", True)


def test_an_upstream_whose_clock_is_another(tmp_path: Path, mock_process: Mock) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    with standing_in(lambda *_: (200, {"date": later}, b"{}")) as url:
        env = {"WEIGHBRIDGE_UPSTREAM_URL": url, "WEIGHBRIDGE_UPSTREAM_KEY": "sk-of-an-upstream"}
        finding = found(tmp_path, env, exit_code=1)["clock"]
    assert (finding["state"], "behind localhost" in finding["detail"]) == ("fail", True)


# -- check by check ------------------------------------------------------------------------------------------------


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    ("seconds", "state"), [(None, "ok"), (2.0, "ok"), (-45.0, "warn"), (45.0, "warn"), (-400.0, "fail"), (4e6, "fail")]
)
def test_the_clock(seconds: float | None, state: str) -> None:
    assert only(check_clock(seconds, "upstream")).state == state


def test_the_state_directory(tmp_path: Path) -> None:
    assert only(check_state_directory(tmp_path / "none")).state is State.OK
    (tmp_path / "file").touch()
    assert only(check_state_directory(tmp_path / "file")).state is State.FAIL
    assert only(check_state_directory(tmp_path)).state is State.OK
    assert only(check_disk_space(tmp_path / "none/at/all")).check == "disk space"


def test_the_price_book_has_a_day() -> None:
    today = datetime.now(UTC).date()
    newest = newest_date(today)
    assert newest is not None
    assert newest <= today


ROUTES: list[tuple[Callable[[AsClient], Iterator[Finding]], Reply]] = [
    (codex.check_websocket, (101, {"upgrade": "websocket", "connection": "upgrade"}, b"")),
    (codex.check_compaction, (403, {}, b"{}")),
    (codex.check_models, (200, {}, b'{"data": [], "models": []}')),
    (sdks.check_models, (200, {}, b'{"data": [], "models": []}')),
]


@pytest.mark.parametrize(("check", "served"), ROUTES)
def test_routes_turn_green_once_they_are_served(check: Callable[[AsClient], Iterator[Finding]], served: Reply) -> None:
    replies: list[tuple[Reply, State]] = [(served, State.OK), ((500, {}, b"{}"), State.FAIL)]
    if check is not codex.check_websocket:
        replies.append(((404, {}, b"{}"), State.WARN))
    for reply, state in replies:
        with standing_in(lambda *_, reply=reply: reply) as url:
            assert only(check(AsClient(f"{url}/api/v1", "sk-wb-x", "m"))).state is state


REFUSED_WITH_A_TEXT_FOR_A_CODE = json.dumps(
    {"error": {"message": "", "type": "", "param": None, "code": "x", "metadata": {"error_type": "model_not_allowed"}}}
).encode()


@pytest.mark.parametrize(
    "reply",
    [
        (200, {}, b"{}"),
        (415, {}, b'{"error": {"message": "zstd?"}}'),
        (403, {"content-type": "text/html"}, b"<html>"),
        (403, {"content-type": "application/json"}, b'{"error": {"metadata": {"error_type": "model_not_allowed"}}}'),
        (403, {"content-type": "application/json"}, REFUSED_WITH_A_TEXT_FOR_A_CODE),
    ],
)
def test_answers_that_sdks_do_not_understand_are_red(reply: Reply) -> None:
    with standing_in(lambda *_: reply) as url:
        assert only(sdks.check_openrouter(AsClient(f"{url}/api/v1", "sk-wb-x", "m"))).state is State.FAIL


def test_the_server_that_runs_here_is_meant(start_gateway: GatewayStarter, tmp_path: Path) -> None:
    """Its state directory, too, without a word about it; of several, one has to be named."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    gateway = start_gateway(XDG_RUNTIME_DIR=str(runtime))
    env = clean_environment(tmp_path / "home", XDG_RUNTIME_DIR=str(runtime))
    done = run("doctor", "--json", env=env)
    details = {finding["check"]: finding["detail"] for finding in json.loads(done.stdout)}
    assert details["state directory"] == str(gateway.state_dir)
    assert gateway.url in details["gateway"]
    folder = tmp_path / "second"
    folder.mkdir()
    other = Process(
        ("serve", "--demo", "--port", "0"),
        {**env, "WEIGHBRIDGE_STATE_DIR": str(folder / "state")},
        r"ready at (http://\S+)\n",
        folder,
    )
    done = run("doctor", "--json", env=env)
    assert (done.returncode, done.stdout, other.url in done.stderr) == (2, "", True)
    assert other.end() == 0
