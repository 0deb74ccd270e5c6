import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.record_json import record_fields
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.telemetry.exchange_log import ExchangeLog, console_line
from app.telemetry.line_budget import MOST_LINES, WINDOW_SECONDS, LineBudget

Configure = Callable[..., Any]


def test_json_lines_carry_the_contracts_fields(log: Configure, record: Record) -> None:
    out = log("json")
    ExchangeLog(out.output)([record])
    (line,) = out.lines()
    read = json.loads(line)
    assert (read.pop("event"), read.pop("level"), read.pop("time")) == ("exchange", "info", read["finished_at"])
    assert read == record_fields(record)
    assert list(read) == list(record_fields(record))


def test_a_console_line_is_for_reading(log: Configure, record: Record) -> None:
    out = log("console")
    ExchangeLog(out.output)([record])
    assert out.text() == (
        "20:58:44 alice openai/gpt-5.5 completed 200 1.2s ttfb 310ms in 1,523 (1,024 cached) out 87 $0.0012 req_1\n"
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"duration_ms": 0.26}, " 0.3ms "),
        ({"duration_ms": 999.6}, " 1.0s "),
        ({"duration_ms": 59_960.0}, " 1m00s "),
        ({"duration_ms": 119_600.0}, " 2m00s "),
        ({"duration_ms": None}, " 200 ? "),
        ({"cost_nanousd": None}, " $? "),
        ({"cost_nanousd": 0}, " $0 "),
        ({"cost_nanousd": 80_001}, " $0.000080001 "),
        ({"cost_nanousd": 999_999}, " $0.000999999 "),
        ({"cost_nanousd": 1_999_960_000}, " $2.0000 "),
        ({"cost_source": CostSource.ESTIMATED}, " ~$0.0012 "),
        ({"input_tokens": None, "output_tokens": None}, " tokens ? "),
        ({"usage_source": UsageSource.ESTIMATED, "output_tokens": None}, " in ~1,523 (1,024 cached) out ~? "),
        ({"http_status": None, "outcome": Outcome.CLIENT_CLOSED}, " client_closed - "),
        ({"error_type": "upstream_timeout"}, " upstream_timeout req_1"),
        ({"model_served": None}, " openai/gpt-5.5 "),
        ({"model_served": None, "model_requested": None}, " /responses "),
    ],
)
def test_console_parts(record: Record, changes: dict[str, Any], part: str) -> None:
    assert part in console_line(replace(record, **changes))


def test_a_batch_is_one_write_and_open_calls_are_passed_over(log: Configure, record: Record) -> None:
    out = log("json")
    writes: list[str] = []
    out.output.sink.write = writes.append
    ExchangeLog(out.output)([record, replace(record, outcome=Outcome.IN_PROGRESS), replace(record, request_id="req_2")])
    ExchangeLog(out.output)([])
    assert len(writes) == 1
    assert [json.loads(line)["request_id"] for line in writes[0].splitlines()] == ["req_1", "req_2"]


FAILED: dict[str, Any] = {
    "outcome": Outcome.UPSTREAM_ERROR,
    "http_status": 502,
    "error_type": "upstream_unreachable",
    "error_detail": "Upstream's host name could not be resolved.",
}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "info"),
        (FAILED, "warning"),
        ({**FAILED, "http_status": 504, "error_type": "upstream_timeout"}, "warning"),
        ({**FAILED, "http_status": 503, "error_type": "overloaded"}, "warning"),
        ({**FAILED, "error_type": "server_error"}, "info"),  # upstream's own, passed on
        ({**FAILED, "http_status": 429, "error_type": "rate_limited"}, "info"),
    ],
)
def test_errors_of_ours_are_warnings(log: Configure, record: Record, changes: dict[str, Any], level: str) -> None:
    out = log("json")
    ExchangeLog(out.output)([replace(record, **changes)])
    read = json.loads(out.text())
    assert (read["level"], read["error_detail"]) == (level, changes.get("error_detail"))


def test_above_info_only_warnings_are_heard(log: Configure, record: Record) -> None:
    out = log("json", "warning")
    ExchangeLog(out.output)([record, replace(record, **FAILED)])
    assert [json.loads(line)["level"] for line in out.lines()] == ["warning"]
    silent = log("json", "error")
    ExchangeLog(silent.output)([replace(record, **FAILED)])
    assert not silent.text()


def test_a_flood_of_refused_calls_is_not_all_logged(log: Configure, record: Record) -> None:
    now = [0.0]
    out = log("json")
    write = ExchangeLog(out.output, LineBudget(lambda: now[0]))
    refused = replace(record, outcome=Outcome.REJECTED, error_type="rate_limited", http_status=429)
    write([refused] * 500)
    write([replace(refused, client="bob"), replace(refused, error_type="overloaded"), record])
    assert len(out.lines()) == MOST_LINES + 3
    now[0] = WINDOW_SECONDS
    write([refused])
    assert len(out.lines()) == MOST_LINES + 4


def test_why_a_call_failed_is_on_the_console(record: Record) -> None:
    line = console_line(replace(record, **FAILED))
    assert line.startswith("20:58:44 warning alice ")
    assert line.endswith(" upstream_unreachable req_1 Upstream's host name could not be resolved.\n")


def test_ids_are_shown_whole(log: Configure, record: Record) -> None:
    out = log("json")
    ExchangeLog(out.output)([replace(record, response_id="r" * 2048, tags=json.dumps({"a": "b" * 3000}))])
    read = json.loads(out.text())
    assert (read["response_id"], read["tags"]) == ("r" * 2048, {"a": "b" * 3000})


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("field", ["model_served", "response_id", "client", "path", "error_detail", "session"])
def test_no_key_gets_through(log: Configure, record: Record, canary_key: str, form: str, field: str) -> None:
    out = log(form, secrets=["plain-admin-secret"])
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2ln"
    for secret in (canary_key, "plain-admin-secret", "sk-wb-0123456789abcdef", jwt, "Bearer 0pensesame"):
        changes: dict[str, Any] = {field: f"x{secret}y"}
        ExchangeLog(out.output)([replace(record, **changes)])
        assert secret.removeprefix("Bearer ") not in out.text()
    assert len(out.lines()) == 5


@pytest.mark.parametrize("form", ["json", "console"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=400) | st.text("ab \n\r\t\x1b\x7f") | st.just("\ud800"))
def test_one_record_is_one_line_whatever_it_holds(log: Configure, record: Record, form: str, text: str) -> None:
    out = log(form)
    ExchangeLog(out.output)([replace(record, model_served=text, model_requested=text, response_id=text)])
    (line,) = out.lines()
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["request_id"] == "req_1"


def test_long_names_are_cut(log: Configure, record: Record) -> None:
    out = log("json")
    ExchangeLog(out.output)([replace(record, model_requested="m" * 10_000)])
    assert json.loads(out.text())["model_requested"] == "m" * 256 + "..."


def test_numbers_beyond_64_bits_are_written_too(log: Configure, record: Record) -> None:
    out = log("json")
    ExchangeLog(out.output)([replace(record, bytes_out=2**70)])
    assert json.loads(out.text())["bytes_out"] == 2**70
