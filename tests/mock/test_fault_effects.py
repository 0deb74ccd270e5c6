"""Each fault as a client on the other end of a socket sees it."""

import gzip
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest

from app.mock.faults import CATALOGUE
from app.mock.raw_responses import SURPLUS
from tests.mock.running import RunningMock

BODY: dict[str, Any] = {"model": "mock/openai", "input": "hi", "stream": True, "metadata": {"mock_tokens": "40"}}


def stream(mock: RunningMock, fault: str, **fields: object) -> list[dict[str, Any]]:
    """The events of a stream that ends properly."""
    answer = mock.post(BODY | fields, fault)
    assert answer.status_code == 200
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


def cut_stream(mock: RunningMock, fault: str, body: dict[str, Any] = BODY) -> bytes:
    """What came of a stream that does not end properly."""
    chunks: list[bytes] = []
    with (
        mock.client.stream("POST", "/v1/responses", json=body, headers={"x-mock-fault": fault}) as answer,
        pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)),
    ):
        chunks.extend(answer.iter_raw())
    return b"".join(chunks)


def raw(mock: RunningMock, fault: str, body: dict[str, Any] = BODY, *, until: bytes = b"") -> bytes:
    """All bytes of the connection, up to its end or until they end so."""
    payload = json.dumps(body).encode()
    head = f"POST /v1/responses HTTP/1.1\r\nhost: mock\r\nauthorization: Bearer {mock.key}\r\nx-mock-fault: {fault}\r\n"
    address = urlsplit(mock.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(f"{head}content-length: {len(payload)}\r\n\r\n".encode() + payload)
        got = b""
        while not (until and got.endswith(until)):
            chunk = connection.recv(65_536)
            if not chunk:
                break
            got += chunk
    return got


def count_events(body: bytes) -> int:
    return len(re.findall(rb"^data: \{", body, re.MULTILINE))


def eventually(mock: RunningMock, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The last call of the books once it is so; the books learn of a client's end a moment after the client."""
    give_up = time.monotonic() + 20
    while not holds(last := mock.last()):
        if time.monotonic() > give_up:
            pytest.fail(f"the books never said so: {last}")
    return last


# Instead of an answer


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 429, 500, 503, 524, 529])
@pytest.mark.parametrize("dialect", ["openai", "openrouter"])
def test_status(mock: RunningMock, status: int, dialect: str) -> None:
    answer = mock.post(BODY | {"model": f"mock/{dialect}"}, f"status={status},retry-after=2")
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "2")
    error = answer.json()["error"]
    assert error["message"]
    assert error.get("code") == status if dialect == "openrouter" else "type" in error
    assert mock.calls() == []
    assert mock.get("/_mock/stats")["refused"] == 1


def test_the_sdk_sees_typed_errors_and_retries(mock: RunningMock) -> None:
    headers = {"x-mock-fault": "status=429:1,retry-after=0"}
    with openai.OpenAI(base_url=f"{mock.url}/v1", api_key=mock.key, default_headers=headers, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="mock/openai", input="hi")
        assert client.responses.create(model="mock/openai", input="hi").status == "completed"
    assert mock.get("/_mock/stats")["requests"] == 2


def test_html_page(mock: RunningMock) -> None:
    answer = mock.post(BODY, "500-html")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "text/html; charset=utf-8")


def test_redirect_leads_to_a_trap(mock: RunningMock) -> None:
    answer = mock.post(BODY, "redirect")
    assert answer.status_code == 307
    mock.client.post(answer.headers["location"])
    stats = mock.get("/_mock/stats")
    assert (stats["redirects_followed"], stats["redirects_with_key"]) == (1, 1)


def test_garbage(mock: RunningMock) -> None:
    assert not raw(mock, "garbage").startswith(b"HTTP/")


def test_close_before_any_byte(mock: RunningMock) -> None:
    assert raw(mock, "close@0") == b""


def test_reset_before_any_byte(mock: RunningMock) -> None:
    with pytest.raises(ConnectionResetError):
        raw(mock, "reset@0")


# What the answer says


@pytest.mark.parametrize(
    ("fault", "types"),
    [
        ("failed", ["response.failed"]),
        ("error-then-failed", ["error", "response.failed"]),
        ("flat-error", ["error"]),
        ("response-error", ["response.error"]),
        ("chat-error", [None]),
        ("overloaded-200", ["response.created", "response.in_progress", "error", "response.failed"]),
    ],
)
def test_failures_are_not_billed(mock: RunningMock, fault: str, types: list[str | None]) -> None:
    events = stream(mock, fault)
    assert [event.get("type") for event in events][-len(types) :] == types
    last = events[-1]
    assert last["response"]["usage"] is None if last.get("type") == "response.failed" else "response" not in last
    call = mock.last()
    assert (call["status"], call["total_tokens"], call["cost_nanousd"]) == ("failed", 0, 0)
    if fault == "flat-error":
        assert last["code"] == "server_error"
    assert ("sequence_number" in last) == (fault != "chat-error")


def test_a_failure_with_usage_is_billed(mock: RunningMock) -> None:
    last = stream(mock, "failed-with-usage")[-1]
    assert last["type"] == "response.failed"
    assert 0 < last["response"]["usage"]["output_tokens"] < 40
    assert last["response"]["usage"]["total_tokens"] == mock.last()["total_tokens"]


def test_incomplete(mock: RunningMock) -> None:
    last = stream(mock, "incomplete")[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == (
        "response.incomplete",
        {"reason": "max_output_tokens"},
    )
    assert last["response"]["usage"]["output_tokens"] == 20 == mock.last()["output_tokens"]


@pytest.mark.parametrize("fault", ["no-usage", "usage-null", "usage-list"])
@pytest.mark.parametrize("dialect", ["openrouter", "openrouter-legacy", "openai", "llamacpp"])
def test_usage_that_is_kept_back(mock: RunningMock, fault: str, dialect: str) -> None:
    response = stream(mock, fault, model=f"mock/{dialect}")[-1]["response"]
    expected: dict[str, list[str] | str | None] = {"no-usage": "absent", "usage-null": None, "usage-list": []}
    assert response.get("usage", "absent") == expected[fault]
    assert mock.last()["reported"] is False
    assert mock.last()["output_tokens"] == 40


def test_double_terminal_is_billed_once(mock: RunningMock) -> None:
    events = stream(mock, "double-terminal")
    assert [event["type"] for event in events[-2:]] == ["response.completed"] * 2
    assert events[-1]["response"] == events[-2]["response"]
    assert mock.get("/_mock/books")["totals"]["output_tokens"] == 40


def test_big_terminal(mock: RunningMock) -> None:
    last = stream(mock, "big-terminal=3MB")[-1]
    assert len(json.dumps(last)) > 3_000_000
    assert len(last["response"]["output"][-1]["result"]) == 3_000_000
    kept = mock.client.get(f"/v1/responses/{last['response']['id']}")
    assert kept.status_code == 404  # too big to keep


def test_unknown_events(mock: RunningMock) -> None:
    types = [event["type"] for event in stream(mock, "unknown-events")]
    assert "response.mock_novelty.delta" in types
    assert types[-1] == "response.completed"


def test_echo_key(mock: RunningMock) -> None:
    events = stream(mock, "echo-key", metadata={})
    assert mock.key in events[-1]["response"]["output"][0]["content"][0]["text"]
    assert mock.key not in json.dumps(mock.get("/_mock/books"))


# How events are written


def body_of(mock: RunningMock, fault: str) -> bytes:
    return mock.post(BODY, fault).content


@pytest.mark.parametrize(
    ("fault", "pattern"),
    [
        ("crlf", rb"event: response\.created\r\ndata: \{[^\r\n]*\}\r\n\r\n(?s:.)*\r\n\r\n"),
        ("cr-only", rb"event: response\.created\rdata: \{[^\r\n]*\}\r\r[^\n]*\r\r"),
        ("bom", rb"\xef\xbb\xbfevent: response\.created\n(?s:.)*\n\n"),
        ("no-space", rb"event:response\.created\ndata:\{(?s:.)*\n\n"),
        ("no-final-blank", rb"event: (?s:.)*\n\nevent: response\.completed\ndata: [^\n]*\n"),
        ("multiline-data", rb'event: response\.created\ndata: \{\ndata:   "type": "response\.created",\n(?s:.)*\n\n'),
        ("comments", rb": keep-alive\n\nevent: response\.created\n(?s:.)*\n\n: keep-alive\n\nevent: (?s:.)*\n\n"),
        ("ids", rb"retry: 3000\n\nid: 0\nevent: response\.created\n(?s:.)*id: 1\nevent: (?s:.)*\n\n"),
    ],
)
def test_framing(mock: RunningMock, fault: str, pattern: bytes) -> None:
    assert re.fullmatch(pattern, body_of(mock, fault))
    assert mock.last()["finished"] is True


def test_split(mock: RunningMock) -> None:
    got = raw(mock, "split=1", BODY | {"metadata": {"mock_tokens": "3"}}, until=b"0\r\n\r\n")
    body = got.partition(b"\r\n\r\n")[2]
    assert re.fullmatch(rb"(?:1\r\n.\r\n)+0\r\n\r\n", body, re.DOTALL)
    assert body[3:-5:6].endswith(b"\n\n")


@pytest.mark.parametrize("streamed", [True, False])
def test_gzip(mock: RunningMock, streamed: bool) -> None:
    headers = {"x-mock-fault": "gzip", "accept-encoding": "identity"}
    with mock.client.stream("POST", "/v1/responses", json=BODY | {"stream": streamed}, headers=headers) as answer:
        packed = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert b"response" in gzip.decompress(packed)


# When and whether it arrives


@pytest.mark.parametrize("fault", ["truncate", "close", "reset"])
def test_cut_after_an_event(mock: RunningMock, fault: str) -> None:
    assert count_events(cut_stream(mock, f"{fault}@7")) == 7
    call = eventually(mock, lambda last: last["status"] == "cut")
    assert (call["events"], call["aborted_at_event"], call["finished"]) == (7, 7, False)
    assert 0 < call["output_tokens"] < 40


def test_cut_before_the_first_event(mock: RunningMock) -> None:
    assert cut_stream(mock, "truncate@0") == b""


def test_clean_end_without_terminal(mock: RunningMock) -> None:
    assert [event["sequence_number"] for event in stream(mock, "truncate-clean@7")] == list(range(7))
    assert (mock.last()["status"], mock.last()["events"]) == ("cut", 7)


def test_cut_inside_terminal(mock: RunningMock) -> None:
    got = cut_stream(mock, "cut-inside-terminal")
    last = got.split(b"\n\n")[-1]
    assert last.startswith(b"event: response.completed\ndata: {")
    with pytest.raises(json.JSONDecodeError):
        json.loads(last.partition(b"data: ")[2])
    call = eventually(mock, lambda last: last["status"] == "cut")
    assert (call["output_tokens"], call["finished"], call["reported"]) == (40, False, False)


@pytest.mark.parametrize("fault", ["truncate@7", "cut-inside-terminal", "reset@2"])
def test_json_is_cut_in_the_middle(mock: RunningMock, fault: str) -> None:
    got = cut_stream(mock, fault, BODY | {"stream": False})
    assert got.startswith(b"{")
    call = eventually(mock, lambda last: last["status"] == "cut")
    assert call["output_tokens"] == 40  # made, although nobody got it


def test_json_may_end_cleanly_in_the_middle(mock: RunningMock) -> None:
    answer = mock.post(BODY | {"stream": False}, "truncate-clean@1")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_stall_goes_on(mock: RunningMock) -> None:
    assert stream(mock, "stall@5=1ms")[-1]["type"] == "response.completed"


def read_some(mock: RunningMock, fault: str, events: int) -> Iterator[bytes]:
    headers = {"x-mock-fault": fault}
    got = b""
    with mock.client.stream("POST", "/v1/responses", json=BODY, headers=headers) as answer:
        for chunk in answer.iter_raw():
            got += chunk
            if count_events(got) >= events:
                yield got
                return


def test_stall_for_ever_until_the_client_leaves(mock: RunningMock) -> None:
    got = next(read_some(mock, "stall@5", 5))
    assert count_events(got) == 5
    call = eventually(mock, lambda last: last["status"] == "aborted")
    assert (call["events"], call["aborted_at_event"]) == (5, 5)
    assert mock.get("/_mock/stats")["open_streams"] == 0


def test_slow_first_byte(mock: RunningMock) -> None:
    assert stream(mock, "slow-first-byte=1ms")[-1]["type"] == "response.completed"
    with pytest.raises(httpx2.ReadTimeout):
        mock.client.post("/v1/responses", json=BODY, headers={"x-mock-fault": "slow-first-byte"}, timeout=0.2)
    call = eventually(mock, lambda last: last["status"] == "aborted")
    assert (call["events"], call["output_tokens"]) == (0, 0)


# What the HTTP head says


def test_headerless(mock: RunningMock) -> None:
    answer = mock.post(BODY, "headerless")
    assert "content-type" not in answer.headers
    assert b"response.completed" in answer.content


def test_informational(mock: RunningMock) -> None:
    got = raw(mock, "informational", until=b"0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 103 Early Hints\r\n")
    assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in got


def test_huge_headers(mock: RunningMock) -> None:
    head = raw(mock, "huge-headers=100KB", until=b"0\r\n\r\n").partition(b"\r\n\r\n")[0]
    assert 100_000 < len(head) < 110_000


@pytest.mark.parametrize("streamed", [True, False])
def test_lengths(mock: RunningMock, streamed: bool) -> None:
    for fault, says in [("short-length", -1), ("long-length", 1)]:
        head, _, body = raw(mock, fault, BODY | {"stream": streamed}).partition(b"\r\n\r\n")
        (length,) = re.findall(rb"content-length: (\d+)", head)
        assert (int(length) > len(body)) == (says > 0)
        assert int(length) != len(body)
        assert mock.last()["status"] == "completed"


def test_duplicate_length(mock: RunningMock) -> None:
    got = raw(mock, "duplicate-length", BODY | {"stream": False}, until=b"}")
    head, _, body = got.partition(b"\r\n\r\n")
    assert [int(length) for length in re.findall(rb"content-length: (\d+)", head)] == [len(body), len(body) + 1]


@pytest.mark.parametrize("streamed", [True, False])
def test_surplus(mock: RunningMock, streamed: bool) -> None:
    got = raw(mock, "surplus", BODY | {"stream": streamed}, until=SURPLUS)
    assert got.endswith(SURPLUS)
    assert got.count(b"HTTP/1.1 200 OK") == 2


# And about them all


def test_metadata_asks_for_faults_too(mock: RunningMock) -> None:
    assert mock.post(BODY | {"metadata": {"mock_fault": "status=529"}}).status_code == 529
    refused = mock.post(BODY | {"metadata": {"mock_fault": "nonsense"}})
    assert refused.status_code == 400
    assert "nonsense" in refused.json()["error"]["message"]


def test_every_fault_is_tested_here() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [kind.name for kind in CATALOGUE if not re.search(rf'[",]{kind.name}["@=:]', tests)] == []
