"""Promise P5, looked for where keys have been found before. Every gateway of every test is searched at its end, too."""

import json
import stat
from collections.abc import Mapping

import pytest

from tests.e2e.client import ASK, ASK_STREAM, Answer
from tests.e2e.leaks import leaks
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, Script, document, head, stream

FAULTS = (
    "echo-key",
    "status=401",
    "status=500",
    "500-html",
    "garbage",
    "redirect",
    "truncate@3",
    "headerless",
    "duplicate-length",
    "gzip",
)


def test_the_search_finds_what_is_there() -> None:
    assert leaks([("log", b'{"key":"sk-1"}'), ("db", b"\0")], {"a": "sk-1", "b": "sk-2"}) == ["a in log"]


def test_a_gateway_that_leaked_would_fail_its_test(gateway: Gateway) -> None:
    """The search goes through output, metrics, process and files: what stands in each is found in each."""
    gateway.post(ASK)
    gateway.secrets |= {"a name": "weighbridge", "a client": "default", "a word": "no_script"}
    try:
        found = gateway.leaks()
    finally:
        del gateway.secrets["a name"], gateway.secrets["a client"], gateway.secrets["a word"]
    assert {"a name in stdout", "a name in /metrics", "a word in answer 404"} <= set(found)
    assert any(place.startswith("a client in weighbridge.db") for place in found)
    assert any(place.startswith("a client in stderr") for place in found)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("body", [ASK, ASK_STREAM], ids=["document", "stream"])
def test_whatever_upstream_does(mocked: Gateway, fault: str, body: Mapping[str, object]) -> None:
    answer = mocked.post(body, {"x-mock-fault": fault})
    assert mocked.leaks() == []
    if fault == "echo-key":
        assert not answer.whole


def test_the_key_in_a_stream_ends_it(gateway: Gateway, replay: ReplayUpstream, canary_key: str) -> None:
    body = f"data: your key is {canary_key}, is it not?\n\n".encode()
    at = body.index(canary_key.encode())
    for cuts in ([], [at + 5], range(len(body))):
        answer = gateway.post(ASK_STREAM, replay.play(stream(body, cuts)))
        assert (answer.status, answer.whole) == (200, False)
        assert canary_key[:-1].encode() not in answer.body or cuts
        assert canary_key.encode() not in answer.body
        assert gateway.record(answer.request_id)["outcome"] == "truncated"


@pytest.mark.parametrize("status", ["400 Bad Request", "402 Pay", "404 Not Found", "429 Slow", "500 Oops"])
def test_the_key_in_an_error_replaces_it(
    gateway: Gateway, replay: ReplayUpstream, canary_key: str, status: str
) -> None:
    body = json.dumps({"error": {"message": f"The key {canary_key} is no good.", "code": canary_key}}).encode()
    answer = gateway.post(ASK, replay.play(document(body, status)))
    assert (answer.status, answer.error_type) == (502, "upstream_error")
    assert gateway.record(answer.request_id)["error_type"] == "upstream_error"


def test_the_key_of_a_caller_where_it_does_not_belong(gateway: Gateway, replay: ReplayUpstream) -> None:
    """In the target, in another header, in the body, in the model's name, with a letter wrong."""
    headers = replay.play(document(b"{}"))
    tried: list[Answer] = [
        gateway.post({"model": "m", "input": gateway.key}, headers),
        gateway.post(ASK, {**headers, "x-api-key": gateway.key, "authorization": ""}),
        gateway.post(ASK, {**headers, "authorization": f"Bearer {gateway.key}x"}),
        gateway.post(ASK, {**headers, "authorization": f"Basic {gateway.key}"}),
        gateway.get(f"/v1/usage?key={gateway.key}"),
        gateway.get(f"/nothing/{gateway.key}"),
        gateway.admin("POST", f"/keys/{gateway.key}/revoke"),
        gateway.admin("POST", "/keys", {"client": "alice", "key": gateway.key}),
    ]
    assert [answer.status for answer in tried[1:5]] == [401, 401, 401, 401]
    gateway.answers += tried
    assert gateway.leaks() == []


def test_the_state_is_for_its_owner_only(gateway: Gateway) -> None:
    paths = [gateway.state_dir, *gateway.state_dir.iterdir()]
    assert {path.name for path in paths} >= {"admin-key", "weighbridge.db", "server.json", "admin.sock"}
    assert [path.name for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_the_key_where_http_should_be(gateway: Gateway, replay: ReplayUpstream, canary_key: str) -> None:
    """Upstream's answer to a key that it does not like may be anything, even a head made of it."""
    for garbage in (canary_key, f"HTTP/1.1 200 {canary_key}", f"HTTP/1.1 200 OK\r\n{canary_key}"):
        gateway.post(ASK, replay.play(Script(garbage.encode() + b"\r\n\r\n", ending="close")))
    opening = head([("Content-Type", f"text/{canary_key}"), ("Content-Length", "2")])
    gateway.post(ASK, replay.play(Script(opening, [b"{}"])))
    assert gateway.leaks() == []
