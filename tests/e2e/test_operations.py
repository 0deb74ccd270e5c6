"""For operators: /healthz, /readyz, /metrics; and what a caller may ask about itself."""

import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK_STREAM
from tests.e2e.program import Gateway, Mock, eventually
from tests.e2e.replay import ReplayUpstream, document, stream
from tests.e2e.samples import wire

METRICS = (
    "weighbridge_requests_total",
    "weighbridge_refusals_total",
    "weighbridge_tokens_total",
    "weighbridge_cost_usd_total",
    "weighbridge_streams_in_flight",
    "weighbridge_time_to_first_byte_seconds",
    "weighbridge_overhead_seconds",
    "weighbridge_request_duration_seconds",
    "weighbridge_ledger_queue_depth",
    "weighbridge_ledger_commit_seconds",
    "weighbridge_ledger_spooled_total",
    "weighbridge_ledger_keeps",
    "weighbridge_unsettled_records",
    "weighbridge_upstream_connections",
    "weighbridge_event_loop_lag_seconds",
)
LABELS = {
    "weighbridge_requests_total": {"route", "outcome"},
    "weighbridge_refusals_total": {"reason"},
    "weighbridge_tokens_total": {"model", "kind"},
    "weighbridge_cost_usd_total": {"model"},
    "weighbridge_upstream_connections": {"state"},
}


def test_health(gateway: Gateway) -> None:
    assert gateway.get("/healthz").json == {"status": "ok"}
    ready = gateway.get("/readyz")
    assert (ready.status, ready.json["status"]) == (200, "ready")
    assert all(part["ok"] for part in ready.json["parts"].values())


def storage(gateway: Gateway) -> dict[str, Any]:
    """The storage part of /readyz, which must call the server fit to serve."""
    ready = gateway.get("/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    part: dict[str, Any] = ready.json["parts"]["storage"]
    assert (part["ok"], part["state"]) == (False, "degraded")
    return part


def test_storage_in_trouble_is_named_and_calls_go_on(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    answers = []

    def call() -> None:
        answers.append(gateway.post(ASK_STREAM, replay.play(stream(wire("01-openai-completed")))))
        assert (answers[-1].status, answers[-1].body) == (200, wire("01-openai-completed"))

    with closing(sqlite3.connect(gateway.state_dir / "weighbridge.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (gateway.state_dir / "spool").rename(gateway.folder / "aside")
        (gateway.state_dir / "spool").touch()  # no directory: nothing can be written there
        for _ in range(3):
            call()
        part = storage(gateway)
        assert (part["kept"], part["waiting"]) == (False, True)
        assert part["problem"].startswith("database is locked; spool: ")
        assert gateway.metric("weighbridge_ledger_keeps") == 0
        assert gateway.metric("weighbridge_ledger_queue_depth") >= 1
        eventually(lambda: "The spool does not take records either" in gateway.process.err, "the log line")
        (gateway.state_dir / "spool").unlink()
        eventually(lambda: storage(gateway)["kept"], "the spool")
        call()
        part = storage(gateway)
        assert (part["problem"], part["kept"], part["waiting"]) == ("database is locked", True, True)
        assert gateway.metric("weighbridge_ledger_spooled_total") == len(answers)
        assert gateway.metric("weighbridge_ledger_keeps") == 1
        other.execute("ROLLBACK")
    eventually(lambda: gateway.get("/readyz").json["status"] == "ready", "an end of the trouble")
    records = gateway.records()
    assert [record["request_id"] for record in records] == [answer.request_id for answer in answers]
    assert {record["outcome"] for record in records} == {"completed"}
    assert gateway.metric("weighbridge_ledger_keeps") == 1


def test_the_metrics_are_there(gateway: Gateway, replay: ReplayUpstream) -> None:
    gateway.post(ASK_STREAM, replay.play(stream(wire("20-openrouter-current"))))
    text = gateway.get("/metrics").body.decode()
    families = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert set(METRICS) <= families
    for name, labels in LABELS.items():
        for found in re.findall(rf"^{name}{{(.*)}} ", text, re.MULTILINE):
            assert set(re.findall(r'(\w+)="', found)) == labels


def test_the_metrics_move(gateway: Gateway, replay: ReplayUpstream) -> None:
    def numbers() -> list[float]:
        return [
            gateway.metric("weighbridge_requests_total", outcome="completed", route="/responses"),
            gateway.metric("weighbridge_refusals_total", reason="authentication"),
            gateway.metric("weighbridge_tokens_total", kind="input"),
            gateway.metric("weighbridge_tokens_total", kind="output"),
            gateway.metric("weighbridge_request_duration_seconds_count"),
            gateway.metric("weighbridge_time_to_first_byte_seconds_count"),
            gateway.metric("weighbridge_overhead_seconds_count"),
        ]

    before = numbers()
    cost = gateway.metric("weighbridge_cost_usd_total")
    commits = gateway.metric("weighbridge_ledger_commit_seconds_count")
    gateway.post(ASK_STREAM, replay.play(stream(wire("20-openrouter-current"))))
    gateway.post(ASK_STREAM, {"authorization": "Bearer nobody"})
    assert [after - then for after, then in zip(numbers(), before, strict=True)] == [1, 1, 2310, 141, 1, 1, 1]
    assert gateway.metric("weighbridge_cost_usd_total") - cost == pytest.approx(0.00123456)
    assert gateway.metric("weighbridge_ledger_commit_seconds_count") > commits
    assert gateway.metric("weighbridge_event_loop_lag_seconds_count") > 0


def test_what_upstreams_books_tell_is_counted_when_they_have_told(
    start_gateway: GatewayStarter, canary_key: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A counter cannot take back the estimate that stands in the ledger until then."""
    with Mock(tmp_path_factory.mktemp("mock"), canary_key, "--books-delay", "0.5") as mock:
        gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock.url}/api/v1")
        gateway.post(ASK_STREAM, {"x-mock-fault": "truncate@7"})
        eventually(lambda: gateway.records()[0]["usage_source"] == "settled", "the settlement")
        (record,) = gateway.records()
        eventually(lambda: gateway.metric("weighbridge_unsettled_records") == 0, "an end of settling")
        for kind in ("input", "output"):
            assert gateway.metric("weighbridge_tokens_total", kind=kind) == record[f"{kind}_tokens"] > 0
        assert gateway.metric("weighbridge_cost_usd_total") == pytest.approx(float(record["cost_usd"]))
        (row,) = gateway.admin("GET", "/usage?by=model").json["rows"]
        assert (row["input_tokens"], row["cost_usd"]) == (record["input_tokens"], record["cost_usd"])


def test_a_stream_in_flight_is_seen(gateway: Gateway, replay: ReplayUpstream) -> None:
    script = stream(wire("47-cut-before-terminal"), ending="hold")
    with gateway.calling(ASK_STREAM, replay.play(script)) as call:
        call.read()
        assert gateway.metric("weighbridge_streams_in_flight") == 1
        assert gateway.metric("weighbridge_upstream_connections") >= 1
    gateway.idle()


def test_names_of_models_make_no_metrics(gateway: Gateway, replay: ReplayUpstream) -> None:
    size = 0
    for number in range(50):
        body = {"model": f"stranger-{number}", "usage": {"input_tokens": 1, "output_tokens": 1}, "status": "completed"}
        gateway.post({"model": f"stranger-{number}"}, replay.play(document(repr(body).replace("'", '"').encode())))
        size = size or gateway.get("/metrics").body.count(b"\n")
    text = gateway.get("/metrics").body
    assert b"stranger" not in text
    assert text.count(b"\n") == size


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via", "x-real-ip"])
def test_metrics_are_not_for_whom_a_proxy_brings(gateway: Gateway, header: str) -> None:
    assert gateway.get("/metrics", headers={header: "203.0.113.9"}).status == 401
    assert gateway.get("/metrics", gateway.admin_key, {header: "203.0.113.9"}).status == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/admin/api/usage", "/admin/api/keys", "/usage"])
def test_nothing_else_is_open(gateway: Gateway, path: str) -> None:
    answer = gateway.get(path)
    assert answer.status in (401, 404)
    assert answer.error_type in ("authentication", "not_found")
    admin_only = gateway.get(path, gateway.key)
    assert admin_only.status == {"/usage": 200, "/openapi.json": 200}.get(path, answer.status)


def test_a_caller_sees_its_own(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    alice, bob = gateway.new_key("alice"), gateway.new_key("bob")
    for key, sample in ((alice, "20-openrouter-current"), (alice, "01-openai-completed"), (bob, "03-openai-toolcalls")):
        gateway.key = key
        gateway.post(ASK_STREAM, replay.play(stream(wire(sample))))
    for key, client, requests, tokens in ((alice, "alice", 2, 2310 + 1523), (bob, "bob", 1, 412)):
        for prefix in ("", "/v1", "/api/v1"):
            usage = gateway.get(f"{prefix}/usage", key).json
            assert usage["client"] == client
            assert (usage["total"]["requests"], usage["total"]["input_tokens"]) == (requests, tokens)
            assert sum(row["requests"] for row in usage["by_day"]) == requests
            assert sum(row["input_tokens"] for row in usage["by_model"]) == tokens
        own = gateway.get("/api/v1/key", key)
        assert own.json["data"]["client"] == client
        assert own.json["data"]["usage"] >= (0.00123456 if client == "alice" else 0)
        assert key not in own.body.decode()
    assert gateway.get("/usage?since=2000-01-01&until=2000-01-02", alice).json["total"]["requests"] == 0
    assert gateway.get("/usage?client=bob", alice).json["client"] == "alice"
    assert gateway.get("/usage").status == gateway.get("/key").status == 401
