"""Callers' 401s were in no log, and 404, 405, 426 and what operators were refused were counted nowhere."""

import json
from typing import Any

import pytest

from app.domain.errors import AuthenticationFailed, NotFound
from app.telemetry.line_budget import MOST_LINES, WINDOW_SECONDS, LineBudget
from app.telemetry.metrics import Metrics
from app.telemetry.refusal_log import RefusalLog
from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, opened
from tests.e2e.program import Gateway, eventually
from tests.edges.fault_server import Act, FaultServer
from tests.edges.raw_client import request, say
from tests.upstream.raw_server import sized

ORIGIN = {"origin": "https://evil.example"}


def refused(gateway: Gateway) -> dict[str, int]:
    names = ("authentication", "not_found", "upgrade_not_supported", "invalid_request", "origin_not_allowed")
    others = ("misdirected_request", "headers_too_large", "unsupported_media_type", "payload_too_large", "rate_limited")
    return {name: int(gateway.metric("weighbridge_refusals_total", reason=name)) for name in (*names, *others)}


def test_each_is_counted_once_and_logged(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway(WEIGHBRIDGE_MAX_BODY_BYTES="64KiB")
    gateway.command("clients", "set", "default", "--rpm", "1")
    gateway.post()
    before = refused(gateway)
    key, wrong = gateway.key, "sk-wb-0123456789abcdef"
    ask = [
        ("authentication", "POST", "/v1/responses", wrong, {}, 401),
        ("authentication", "GET", "/v1/key", wrong, {}, 401),
        ("authentication", "GET", "/admin/api/server", key, {}, 401),
        ("authentication", "GET", "/openapi.json", wrong, {}, 401),
        ("not_found", "GET", "/v1/nowhere", key, {}, 404),
        ("upgrade_not_supported", "GET", "/v1/responses", key, {}, 426),
        ("invalid_request", "PUT", "/v1/responses", key, {}, 405),
        ("invalid_request", "GET", "/v1/usage?since=junk", key, {}, 400),
        ("origin_not_allowed", "POST", "/v1/responses", key, ORIGIN, 403),
        ("misdirected_request", "GET", "/v1/key", key, {"host": "elsewhere.example"}, 421),
        ("headers_too_large", "GET", "/v1/key", key, {"x": "y" * 70_000}, 431),
        ("unsupported_media_type", "POST", "/v1/responses", key, {"content-type": "text/plain"}, 415),
        ("payload_too_large", "POST", "/v1/responses", key, {"content-length": "70000"}, 413),
        ("rate_limited", "POST", "/v1/responses", key, {}, 429),
    ]
    for reason, method, path, shown, headers, status in ask:
        with opened(gateway.url + path, shown, headers=headers, method=method) as call:
            answer = call.rest()
        assert (answer.status, answer.error_type) == (status, reason)
        after = refused(gateway)
        assert after == {**before, reason: before[reason] + 1}, (method, path)
        before = after
    lines = refusal_lines(gateway)
    calls = ("unsupported_media_type", "payload_too_large", "rate_limited")  # in the ledger, with lines of their own
    assert [line["error_type"] for line in lines] == [reason for reason, *_ in ask if reason not in calls]
    assert all(line["address"] == "127.0.0.1" and line["level"] == "info" for line in lines)
    assert (lines[0]["request"], lines[0]["http_status"]) == ("POST /v1/responses", 401)
    assert lines[0]["error_detail"]
    rejected = [r for r in gateway.records() if r["outcome"] == "rejected"]
    assert sorted(r["error_type"] for r in rejected) == sorted(calls)
    assert all(r["error_detail"] for r in rejected)


def refusal_lines(gateway: Gateway) -> list[dict[str, Any]]:
    def written() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in gateway.process.err.splitlines()]
        return [line for line in lines if line["event"] == "request refused"]

    return eventually(written, "log lines")


def test_a_flood_is_counted_and_not_all_logged(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    for _ in range(MOST_LINES + 5):
        assert gateway.get("/v1/key", "sk-wb-0123456789abcdef").status == 401
    assert gateway.metric("weighbridge_refusals_total", reason="authentication") == MOST_LINES + 5
    eventually(lambda: len(refusal_lines(gateway)) == MOST_LINES, "the lines")
    assert gateway.get("/v1/nowhere", gateway.key).status == 404
    eventually(lambda: refusal_lines(gateway)[-1]["error_type"] == "not_found", "the line of the 404")
    assert len(refusal_lines(gateway)) == MOST_LINES + 1


def test_what_was_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = RefusalLog(LineBudget(lambda: now[0]))
    with caplog.at_level("INFO"):
        for _ in range(MOST_LINES + 7):
            log.note(AuthenticationFailed("No."), "10.0.0.1", "GET /key")
        now[0] += WINDOW_SECONDS
        log.note(AuthenticationFailed("No."), None, "x" * 5000)
        log.note(NotFound("No."), None, "")
    assert len(caplog.records) == MOST_LINES + 2
    after = vars(caplog.records[MOST_LINES])
    assert (after["left_out_before"], after["request"]) == (7, "x" * 200)
    assert "left_out_before" not in vars(caplog.records[-1])


def test_reasons_are_a_closed_set() -> None:
    metrics = Metrics(lambda _: False)

    class Odd(NotFound):
        error_type = "made_up"

    metrics.request_refused(Odd("No."), None, "GET /")
    assert metrics.refusals["other"] == 1


def test_errors_of_ours_in_upstreams_place_are_counted(start_gateway: GatewayStarter) -> None:
    """An alert waits for `upstream_auth`."""
    upstream = FaultServer()
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=upstream.url)
    act = Act((sized(b"{}", b"content-type: application/json", status=b"401 No"),))
    assert say(gateway.url, request(gateway.key, ASK, headers=upstream.play(act))).only.status == 502
    assert gateway.metric("weighbridge_refusals_total", reason="upstream_auth") == 1
    upstream.close()
