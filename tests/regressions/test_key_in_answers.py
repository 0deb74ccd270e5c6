"""The upstream key passed when two reads split it, in a coded answer (then it stood in the ledger, too), or escaped."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.e2e.client import ASK, ASK_STREAM
from tests.e2e.program import Gateway
from tests.edges.fault_server import COMPLETED, EVENT, Act, FaultServer
from tests.edges.raw_client import request, say
from tests.upstream.raw_server import chunked, sized

STREAM = b"content-type: text/event-stream"
JSON = b"content-type: application/json"
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
ESCAPES: dict[str, Callable[[str], str]] = {
    "JSON escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "JSON escapes in JSON": lambda key: json.dumps("".join(f"\\u{ord(c):04x}" for c in key))[1:-1],
    "percent encoding": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "HTML entities": lambda key: "".join(f"&#{ord(c)};" for c in key),
}


def head(*headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"transfer-encoding: chunked"]) + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("back", [1, 20, 40])
def test_split_over_two_reads(program: Gateway, upstream: FaultServer, canary_key: str, back: int) -> None:
    key = canary_key.encode()
    act = Act((head(STREAM) + chunk(EVENT), chunk(b"data: " + key[:-back]), chunk(key[-back:]) + b"0\r\n\r\n"))
    answer = say(program.url, request(program.key, ASK_STREAM, headers=upstream.play(act))).only
    assert not answer.whole
    assert key[:8] not in answer.body
    record = program.record(answer.request_id)
    assert (record["outcome"], record["error_type"]) == ("truncated", "upstream_error")
    assert record["error_detail"] == "The upstream key was in upstream's answer."


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("streams", [True, False])
def test_in_a_coded_answer(
    program: Gateway, upstream: FaultServer, canary_key: str, coding: str, streams: bool
) -> None:
    served = COMPLETED.replace(b"gpt-5.1", canary_key.encode())
    body = CODINGS[coding](EVENT + served if streams else served.removeprefix(b"data: "))
    headers = (STREAM if streams else JSON, b"content-encoding: " + coding.encode())
    act = Act((chunked(body, headers=headers) if streams else sized(body, *headers),))
    answer = say(program.url, request(program.key, ASK_STREAM if streams else ASK, headers=upstream.play(act))).only
    assert (answer.status, answer.body, answer.whole) == (200, b"", False)
    record = program.record(answer.request_id)
    assert record["model_served"] is None
    assert canary_key not in program.admin("GET", "/usage?by=model").body.decode()


@pytest.mark.parametrize("name", ESCAPES)
def test_escaped_in_an_error(program: Gateway, upstream: FaultServer, canary_key: str, name: str) -> None:
    body = b'{"error":{"message":"Wrong key: %b","code":"no"}}' % ESCAPES[name](canary_key).encode()
    act = Act((sized(body, JSON, status=b"400 Bad Request"),))
    answer = say(program.url, request(program.key, ASK, headers=upstream.play(act))).only
    assert (answer.status, answer.error_type) == (502, "upstream_error")
    assert "Wrong key" not in repr(program.record(answer.request_id))


@pytest.mark.parametrize("name", ["JSON escapes"])
def test_escaped_in_a_stream(program: Gateway, upstream: FaultServer, canary_key: str, name: str) -> None:
    spelled = ESCAPES[name](canary_key).encode()
    middle = len(spelled) // 2
    told = b'data: {"type":"response.output_text.delta","delta":"' + spelled[:middle]
    act = Act((head(STREAM) + chunk(EVENT), chunk(told), chunk(spelled[middle:] + b'"}\n\n') + b"0\r\n\r\n"))
    answer = say(program.url, request(program.key, ASK_STREAM, headers=upstream.play(act))).only
    assert not answer.whole
    assert spelled[: 8 * 6] not in answer.body


@pytest.mark.parametrize("status", [200, 400])
def test_percent_encoded_in_a_header(program: Gateway, upstream: FaultServer, canary_key: str, status: int) -> None:
    told = b"x-debug: https://api.example.com/?key=" + ESCAPES["percent encoding"](canary_key).encode()
    act = Act((sized(b'{"status":"completed"}', JSON, told, status=b"%d Well" % status),))
    answer = say(program.url, request(program.key, ASK, headers=upstream.play(act))).only
    assert (answer.status, answer.value("x-debug")) == (status, None)


def test_one_character_escaped_in_a_header_of_an_error(
    program: Gateway, upstream: FaultServer, canary_key: str
) -> None:
    told = b"x-debug: sk%2D" + canary_key.removeprefix("sk-").encode()
    act = Act((sized(b"{}", JSON, told, status=b"400 No"),))
    answer = say(program.url, request(program.key, ASK, headers=upstream.play(act))).only
    assert (answer.status, answer.value("x-debug")) == (400, None)


def test_what_begins_as_the_key_and_is_none_passes(program: Gateway, upstream: FaultServer, canary_key: str) -> None:
    pieces = (EVENT, b": " + canary_key[:30].encode(), b"\n\n", COMPLETED, b": " + canary_key[:9].encode())
    act = Act((head(STREAM) + chunk(pieces[0]), *map(chunk, pieces[1:]), b"0\r\n\r\n"))
    answer = say(program.url, request(program.key, ASK_STREAM, headers=upstream.play(act))).only
    assert (answer.body, answer.whole) == (b"".join(pieces), True)
    assert program.record(answer.request_id)["outcome"] == "completed"


def test_a_coded_error_without_the_key_passes(program: Gateway, upstream: FaultServer, tmp_path: Path) -> None:
    body = gzip.compress(b'{"error":{"message":"No such model.","code":"model_not_found"}}')
    act = Act((sized(body, JSON, b"content-encoding: gzip", status=b"404 Not Found"),))
    answer = say(program.url, request(program.key, ASK, headers=upstream.play(act))).only
    assert (answer.status, answer.body) == (404, body)
    record = program.record(answer.request_id)
    assert (record["error_type"], record["error_detail"]) == ("model_not_found", "No such model.")
