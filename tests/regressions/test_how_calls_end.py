"""Issue 12, B1 to B5: budgets hold, however a call ends."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import dial, encoded, raw_request
from tests.e2e.program import Gateway, eventually
from tests.e2e.replay import Ending, ReplayUpstream, Script, document, head
from tests.e2e.samples import wire
from tests.e2e.test_limits import MODEL, agree, opened_as, own, post

CONTEXT = 128_000
"""Tokens of the model's context."""
OUT = 1000
CALL = {"model": MODEL, "input": "Tell me a story.", "max_output_tokens": OUT}
STREAM = {**CALL, "stream": True}
BODY = json.dumps(
    {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": MODEL,
        "output": [],
        "usage": {"input_tokens": 12, "output_tokens": 45, "total_tokens": 57},
    }
).encode()
EVENTS = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]


def worst(call: dict[str, Any]) -> int:
    return -(-len(encoded(call)) // 3) + OUT


@pytest.fixture
def team(start_gateway: GatewayStarter) -> Gateway:
    return start_gateway(WEIGHBRIDGE_FIRST_BYTE_TIMEOUT="0.6", WEIGHBRIDGE_DRAIN_TIMEOUT="0.5")


def member(gateway: Gateway, name: str, **terms: Any) -> str:  # noqa: ANN401 - the API's own fields
    """A new client with a budget in tokens and one in dollars."""
    made = gateway.new_key(name)
    agree(gateway, name, budget_tokens={"day": 10**6}, budget_usd={"day": "100"}, **terms)
    return made


def leave(gateway: Gateway, key: str, call: dict[str, Any], script: Script, headers: dict[str, str]) -> None:
    """Send a call and hang up as soon as upstream has it."""
    with dial(gateway.url) as connection:
        connection.sendall(raw_request(key, call, headers=headers))
        script.wait_for_call()


def records(gateway: Gateway, client: str) -> list[dict[str, Any]]:
    return [r for r in gateway.records() if r["client"] == client and r["outcome"] != "in_progress"]


def record(gateway: Gateway, client: str) -> dict[str, Any]:
    found = eventually(lambda: records(gateway, client), "the record")
    assert len(found) == 1
    return found[0]


def spent(gateway: Gateway, key: str) -> tuple[int, float]:
    """Tokens and dollars; nothing is reserved any more."""
    budgets = own(gateway, key)["budgets"]
    assert [float(budget["reserved"]) for budget in budgets] == [0, 0]
    by_unit = {budget["unit"]: budget["spent"] for budget in budgets}
    return by_unit["tokens"], float(by_unit["usd"])


def unsettled(gateway: Gateway, client: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.admin("GET", f"/limits/unsettled?client={client}").json["calls"]
    return found


# -- B1 ---------------------------------------------------------------------------------------------------------


def test_an_unstreamed_call_that_is_left_is_read_to_its_end(gateway: Gateway, replay: ReplayUpstream) -> None:
    key = member(gateway, "b1", concurrency=1)
    script = document(BODY)
    script.gated = True
    leave(gateway, key, CALL, script, replay.play(script))
    eventually(lambda: own(gateway, key)["calls"] == 1)
    refused = post(gateway, key, CALL, **replay.play(document(BODY)))
    assert (refused.status, refused.error_type) == (429, "rate_limited")  # its slot is still taken
    assert gateway.metric("weighbridge_streams_in_flight") == 1
    script.go()
    script.go()
    found = eventually(lambda: [r for r in records(gateway, "b1") if r["outcome"] != "rejected"], "the record")[0]
    assert (found["outcome"], found["usage_source"], found["total_tokens"]) == ("completed", "reported", 57)
    assert spent(gateway, key)[0] == 57


def test_by_cancel_an_unstreamed_call_that_is_left_is_closed_and_held(gateway: Gateway, replay: ReplayUpstream) -> None:
    key = member(gateway, "b1-cancel", on_disconnect="cancel")
    script = Script(b"", ending="hold")
    leave(gateway, key, CALL, script, replay.play(script))
    found = record(gateway, "b1-cancel")
    assert (found["outcome"], found["usage_source"]) == ("client_closed", "estimated")
    assert (found["total_tokens"], spent(gateway, key)[0]) == (worst(CALL), worst(CALL))
    assert [call["request_id"] for call in unsettled(gateway, "b1-cancel")] == [found["request_id"]]


# -- B2 ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_left_before_its_head_is_kept_until_its_generation_id_is_known(
    gateway: Gateway, replay: ReplayUpstream
) -> None:
    key = member(gateway, "b2")
    opening = head([*EVENTS, ("X-Generation-Id", "gen-b2")])
    script = Script(b"", [opening], "hold", gated=True)
    leave(gateway, key, STREAM, script, replay.play(script))
    eventually(lambda: own(gateway, key)["calls"] == 1)
    script.go()
    script.go()
    assert script.seen[0].gone.wait(5), "upstream was never closed"
    found = record(gateway, "b2")
    assert (found["outcome"], found["generation_id"], found["usage_source"]) == ("client_closed", "gen-b2", "estimated")
    assert unsettled(gateway, "b2") == []  # upstream's records have it


def test_a_stream_whose_head_does_not_come_is_held_after_two_seconds(gateway: Gateway, replay: ReplayUpstream) -> None:
    key = member(gateway, "b2-silent")
    script = Script(b"", ending="hold")
    leave(gateway, key, STREAM, script, replay.play(script))
    left_at = time.monotonic()
    found = record(gateway, "b2-silent")
    assert 1.5 < time.monotonic() - left_at < 4
    assert (found["outcome"], found["total_tokens"]) == ("client_closed", worst(STREAM))
    (held,) = unsettled(gateway, "b2-silent")
    assert (held["request_id"], held["held_tokens"]) == (found["request_id"], worst(STREAM))
    assert spent(gateway, key) == (worst(STREAM), float(held["held_usd"]))


# -- B3 ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_left_counts_input_by_what_was_set_aside(gateway: Gateway, replay: ReplayUpstream) -> None:
    key = member(gateway, "b3")
    call = {**STREAM, "previous_response_id": "resp_0"}
    body = wire("47-cut-before-terminal")
    script = Script(head([("Content-Type", "text/event-stream")]), [body], "hold")
    with opened_as(gateway, key, call, replay.play(script)) as open_call:
        open_call.read_until(body[-40:])
    found = record(gateway, "b3")
    assert (found["outcome"], found["usage_source"], found["cost_source"]) == (
        "client_closed",
        "estimated",
        "estimated",
    )
    assert found["input_tokens"] == CONTEXT
    assert 0 < found["output_tokens"] <= OUT
    assert spent(gateway, key) == (found["total_tokens"], float(found["cost_usd"]))
    assert unsettled(gateway, "b3") == []  # it is final where upstream has no records


# -- B4 ---------------------------------------------------------------------------------------------------------


def test_a_call_that_is_not_answered_in_time_is_held_until_an_operator_tells(
    team: Gateway, replay: ReplayUpstream
) -> None:
    key = member(team, "b4")
    answer = post(team, key, CALL, **replay.play(Script(b"", ending="hold")))
    assert (answer.status, answer.value("x-should-retry")) == (504, "false")
    found = record(team, "b4")
    assert (found["outcome"], found["error_type"]) == ("timeout", "upstream_timeout")
    (held,) = team.json_of("limits", "unsettled", "b4")
    assert (held["request_id"], held["held_tokens"]) == (found["request_id"], worst(CALL))
    assert spent(team, key) == (worst(CALL), float(held["held_usd"]))
    team.restart(signal.SIGKILL)
    assert spent(team, key) == (worst(CALL), float(held["held_usd"]))
    settled = team.json_of("limits", "settle", found["request_id"], "--usd", "0.25")
    assert (settled["usage_source"], settled["cost_usd"]) == ("settled", "0.25")
    assert spent(team, key) == (worst(CALL), 0.25)
    assert team.json_of("limits", "unsettled") == []
    again = team.command("limits", "settle", found["request_id"], "--usd", "0", exit_code=1)
    assert "nothing to settle" in again.stderr
    eventually(lambda: record(team, "b4")["usage_source"] == "settled")
    team.restart(signal.SIGKILL)
    assert spent(team, key) == (worst(CALL), 0.25)


def test_the_refusal_says_how_much_is_held(team: Gateway, replay: ReplayUpstream) -> None:
    key = member(team, "b4-told")
    agree(team, "b4-told", budget_tokens={"day": worst(CALL)})
    assert post(team, key, CALL, **replay.play(Script(b"", ending="hold"))).status == 504
    refused = post(team, key, CALL)
    assert (refused.status, refused.error_type) == (429, "insufficient_quota")
    said = refused.json["error"]["message"]
    assert f"{worst(CALL)} tokens of it is held for 1 call whose cost is not known yet" in said
    assert "`weighbridge limits unsettled b4-told`" in said
    team.command("limits", "settle", record_of(team, "timeout")["request_id"], "--usd", "0")
    assert post(team, key, CALL, **replay.play(document(BODY))).status == 200


def record_of(gateway: Gateway, outcome: str) -> dict[str, Any]:
    return next(r for r in gateway.records() if r["outcome"] == outcome)


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_connection_that_is_closed_before_its_head(gateway: Gateway, replay: ReplayUpstream, ending: Ending) -> None:
    name = f"b4-{ending}"
    key = member(gateway, name)
    script = Script(b"", [b""], ending, gated=True)
    script.go()
    threading.Timer(0.3, script.go).start()  # later than what passes for an old connection's end
    assert post(gateway, key, CALL, **replay.play(script)).status == 502
    assert record(gateway, name)["outcome"] == "upstream_error"
    assert [call["held_tokens"] for call in unsettled(gateway, name)] == [worst(CALL)]
    assert spent(gateway, key)[0] == worst(CALL)


@pytest.mark.parametrize("call", [CALL, STREAM], ids=["unstreamed", "asked as a stream"])
@pytest.mark.parametrize("length", [[], [("Content-Length", "20")]], ids=["no length", "a length"])
def test_a_document_that_ends_too_early(
    gateway: Gateway, replay: ReplayUpstream, call: dict[str, Any], length: list[tuple[str, str]]
) -> None:
    """It counted by what had come of it: next to nothing, or nothing."""
    name = f"b4-cut-{'stream' if 'stream' in call else 'json'}-{len(length)}"
    key = member(gateway, name)
    script = Script(head([("Content-Type", "application/json"), *length]), [BODY[:20]], "close")
    post(gateway, key, call, **replay.play(script))
    found = record(gateway, name)
    assert (found["outcome"], found["usage_source"]) == ("truncated", "estimated")
    assert found["error_detail"] == "Upstream's answer ended before its JSON did."
    assert [held["held_tokens"] for held in unsettled(gateway, name)] == [worst(call)]
    assert spent(gateway, key)[0] == worst(call)


def test_what_upstream_refuses_counts_nothing(gateway: Gateway, replay: ReplayUpstream) -> None:
    key = member(gateway, "b4-refused")
    for status in ("401 Unauthorized", "429 Too Many Requests", "500 Internal Server Error", "302 Found"):
        post(gateway, key, CALL, **replay.play(document(b'{"error":{"message":"no"}}', status)))
    assert spent(gateway, key) == (0, 0)
    assert unsettled(gateway, "b4-refused") == []


def test_a_stop_in_mid_call(team: Gateway, replay: ReplayUpstream) -> None:
    key = member(team, "b4-stop")
    script = Script(b"", ending="hold")
    with dial(team.url) as connection:
        connection.sendall(raw_request(key, CALL, headers=replay.play(script)))
        script.wait_for_call()
        team.restart(signal.SIGTERM)
    assert record(team, "b4-stop")["outcome"] in {"interrupted", "timeout"}
    assert [call["held_tokens"] for call in unsettled(team, "b4-stop")] == [worst(CALL)]
    assert spent(team, key)[0] == worst(CALL)


def test_a_crash_in_mid_call(gateway: Gateway, start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    crashing = start_gateway()
    key = member(crashing, "b4-crash")
    script = Script(b"", ending="hold")
    with dial(crashing.url) as connection:
        connection.sendall(raw_request(key, CALL, headers=replay.play(script)))
        script.wait_for_call()
        eventually(lambda: [r for r in crashing.records() if r["outcome"] == "in_progress"], "its row")
        crashing.restart(signal.SIGKILL)
    (held,) = eventually(lambda: unsettled(crashing, "b4-crash"), "the call")
    assert (held["outcome"], held["held_tokens"]) == ("interrupted", worst(CALL))
    assert spent(crashing, key)[0] == worst(CALL)


@contextmanager
def deaf_upstream() -> Iterator[str]:
    """An upstream that takes connections and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def test_nothing_counts_where_nothing_was_sent_whole(tmp_path: Path, canary_key: str) -> None:
    with (
        deaf_upstream() as url,
        Gateway(tmp_path, canary_key, WEIGHBRIDGE_UPSTREAM_URL=url, WEIGHBRIDGE_FIRST_BYTE_TIMEOUT="0.6") as gateway,
    ):
        key = gateway.new_key("b4-deaf")
        agree(gateway, "b4-deaf", budget_tokens={"day": 10**9}, budget_usd={"day": "10000"})
        large = {**CALL, "input": "x" * 20_000_000}
        assert post(gateway, key, large).status == 504
        found = record(gateway, "b4-deaf")
        assert (found["outcome"], found["usage_source"], found["total_tokens"]) == ("timeout", "none", None)
        assert spent(gateway, key) == (0, 0)
        assert unsettled(gateway, "b4-deaf") == []


# -- B5 ---------------------------------------------------------------------------------------------------------


def test_a_rate_in_tokens_does_not_get_back_what_nobody_has_told(team: Gateway, replay: ReplayUpstream) -> None:
    key = team.new_key("b5")
    agree(team, "b5", tpm=worst(CALL) + 10)
    assert post(team, key, CALL, **replay.play(Script(b"", ending="hold"))).status == 504
    refused = post(team, key, CALL)
    assert (refused.status, refused.error_type) == (429, "rate_limited")


# -- work that goes on upstream ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_work_that_goes_on_upstream_unasked_is_held(gateway: Gateway, replay: ReplayUpstream, status: str) -> None:
    """A preset or a provider may turn a call into background work. What it costs is known later, so it is held."""
    key = member(gateway, f"unasked-{status.replace('_', '-')}")
    answer: dict[str, Any] = {
        "id": "resp_later",
        "object": "response",
        "status": status,
        "model": MODEL,
        "output": [],
        "usage": None,
    }
    script = document(json.dumps(answer).encode())
    assert post(gateway, key, CALL, **replay.play(script)).status == 200
    assert spent(gateway, key)[0] == worst(CALL)
