"""Issue 12, E6: the running streams of a revoked key and of a disabled client end, here and in other replicas."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.client import ASK_STREAM, Answer, OpenCall, dial, opened, raw_request, receive
from tests.e2e.program import Gateway, eventually
from tests.e2e.replay import ReplayUpstream, Script, stream
from tests.e2e.samples import wire
from tests.e2e.test_limits import agree
from tests.store.postgres_server import PostgresServer

BODY = wire("47-cut-before-terminal")


@contextmanager
def streaming(gateway: Gateway, key: str, replay: ReplayUpstream, script: Script) -> Iterator[OpenCall]:
    """A call in mid-stream."""
    with opened(f"{gateway.url}/v1/responses", key, ASK_STREAM, replay.play(script)) as call:
        call.read_until(BODY[-40:])
        yield call


def new_key(gateway: Gateway, client: str) -> tuple[str, str]:
    made = gateway.admin("POST", "/keys", {"client": client}).json
    gateway.secrets[f"key of {client}"] = made["key"]
    return made["key_id"], made["key"]


def knows(gateway: Gateway, key: str) -> bool:
    return gateway.get("/v1/key", key).status == 200


def rest(call: OpenCall) -> tuple[Answer, float]:
    begun = time.monotonic()
    answer = call.rest()
    return answer, time.monotonic() - begun


def ended(gateway: Gateway, client: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [r for r in gateway.records() if r["client"] == client and r["outcome"] != "in_progress"]

    (record,) = eventually(found, "the record")
    return record


def test_a_revoked_keys_stream_is_broken_off(gateway: Gateway, replay: ReplayUpstream) -> None:
    key_id, key = new_key(gateway, "revoked")
    script = stream(BODY, ending="hold")
    with streaming(gateway, key, replay, script) as call:
        gateway.command("keys", "revoke", key_id)
        answer, seconds = rest(call)
    assert (answer.whole, answer.body) == (False, BODY)
    assert seconds < 1
    assert script.seen[0].gone.wait(5)
    record = ended(gateway, "revoked")
    assert (record["outcome"], record["error_type"], record["usage_source"]) == (
        "interrupted",
        "key_revoked",
        "estimated",
    )


def test_a_disabled_clients_stream_is_broken_off(gateway: Gateway, replay: ReplayUpstream) -> None:
    _, key = new_key(gateway, "disabled-client")
    with streaming(gateway, key, replay, stream(BODY, ending="hold")) as call:
        gateway.command("clients", "set", "disabled-client", "--disable")
        answer, seconds = rest(call)
    assert not answer.whole
    assert seconds < 1
    record = ended(gateway, "disabled-client")
    assert (record["outcome"], record["error_type"]) == ("interrupted", "client_disabled")


def test_before_the_head_it_is_401(gateway: Gateway, replay: ReplayUpstream) -> None:
    key_id, key = new_key(gateway, "revoked-early")
    script = Script(b"", ending="hold")
    with dial(gateway.url) as connection:
        connection.sendall(raw_request(key, ASK_STREAM, headers=replay.play(script)))
        script.wait_for_call()
        assert gateway.admin("POST", f"/keys/{key_id}/revoke").status == 200
        answer = receive(connection, b'"authentication"')
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"x-should-retry: false" in answer.lower()
    record = ended(gateway, "revoked-early")
    assert (record["outcome"], record["error_type"], record["http_status"]) == ("interrupted", "key_revoked", 401)


def test_calls_that_are_let_run_come_to_their_end(gateway: Gateway, replay: ReplayUpstream) -> None:
    key_id, key = new_key(gateway, "let-run")
    whole = wire("01-openai-completed")
    script = stream(whole, [len(whole) // 2])
    script.gated = True
    script.go()
    with opened(f"{gateway.url}/v1/responses", key, ASK_STREAM, replay.play(script)) as call:
        call.read_until(whole[:100])
        gateway.command("keys", "revoke", key_id, "--let-run")
        gateway.command("clients", "set", "let-run", "--disable", "--let-run")
        script.go()
        script.go()
        answer = call.rest()
    assert (answer.whole, answer.body) == (True, whole)
    assert ended(gateway, "let-run")["outcome"] == "completed"
    assert [k["state"] for k in gateway.json_of("keys", "list") if k["key_id"] == key_id] == ["revoked"]


def test_who_was_let_run_can_still_be_ended(gateway: Gateway, replay: ReplayUpstream) -> None:
    key_id, key = new_key(gateway, "ended-later")
    with streaming(gateway, key, replay, stream(BODY, ending="hold")) as call:
        assert gateway.admin("POST", f"/keys/{key_id}/revoke?let_run=true").status == 200
        assert gateway.admin("POST", f"/keys/{key_id}/revoke").status == 200
        answer, seconds = rest(call)
    assert not answer.whole
    assert seconds < 1


def test_the_end_of_a_grace_lets_streams_run(gateway: Gateway, replay: ReplayUpstream) -> None:
    key_id, key = new_key(gateway, "rotated")
    whole = wire("01-openai-completed")
    script = stream(whole, [len(whole) // 2])
    script.gated = True
    script.go()
    with opened(f"{gateway.url}/v1/responses", key, ASK_STREAM, replay.play(script)) as call:
        call.read_until(whole[:100])
        rotated = gateway.json_of("keys", "rotate", key_id, "--grace", "0s")
        gateway.secrets["rotated"] = rotated["key"]
        script.go()
        script.go()
        assert call.rest().whole


def test_a_key_that_is_revoked_while_its_request_is_read_goes_nowhere(gateway: Gateway, replay: ReplayUpstream) -> None:
    key_id, key = new_key(gateway, "revoked-unsent")
    script = stream(BODY)
    whole = raw_request(key, {**ASK_STREAM, "input": "x" * 200_000}, headers=replay.play(script))
    with dial(gateway.url) as connection:
        connection.sendall(whole[:100_000])
        eventually(lambda: gateway.metric("weighbridge_streams_in_flight") >= 1)
        assert gateway.admin("POST", f"/keys/{key_id}/revoke").status == 200
        connection.sendall(whole[100_000:])
        assert receive(connection, b"\r\n").startswith(b"HTTP/1.1 401 ")
    assert script.seen == []
    assert ended(gateway, "revoked-unsent")["usage_source"] == "none"


def test_other_replicas_end_them_within_two_seconds(
    replay: ReplayUpstream, canary_key: str, tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> None:
    def start(name: str) -> Gateway:
        folder = tmp_path / name
        folder.mkdir()
        env = {"WEIGHBRIDGE_UPSTREAM_URL": replay.url, "WEIGHBRIDGE_DATABASE_URL": postgres_url}
        gateway = Gateway(folder, canary_key, **env)
        gateway.secrets["database password"] = postgres.password
        return gateway

    with start("one") as one, start("two") as two:
        ids = {client: new_key(one, client) for client in ("far-revoked", "far-disabled", "far-run")}
        for _, key in ids.values():
            eventually(partial(knows, two, key), "the key")
        scripts = {client: stream(BODY, ending="hold") for client in ids}
        with (
            streaming(two, ids["far-revoked"][1], replay, scripts["far-revoked"]) as revoked,
            streaming(two, ids["far-disabled"][1], replay, scripts["far-disabled"]) as disabled,
            streaming(two, ids["far-run"][1], replay, scripts["far-run"]),
        ):
            assert one.admin("POST", f"/keys/{ids['far-run'][0]}/revoke?let_run=true").status == 200
            assert one.admin("POST", f"/keys/{ids['far-revoked'][0]}/revoke").status == 200
            agree(one, "far-disabled", enabled=False)
            begun = time.monotonic()
            assert not revoked.rest().whole
            assert not disabled.rest().whole
            assert time.monotonic() - begun < 2
            assert ended(two, "far-revoked")["error_type"] == "key_revoked"
            assert ended(two, "far-disabled")["error_type"] == "client_disabled"
            assert not scripts["far-run"].seen[0].gone.is_set()
