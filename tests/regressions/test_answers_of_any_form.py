"""Usage was lost when content type and body disagreed, behind a byte order mark, and in codings other than gzip."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest
import zstandard

from tests.e2e.client import ASK, ASK_STREAM
from tests.e2e.program import Gateway
from tests.edges.fault_server import COMPLETED, EVENT, Act, FaultServer
from tests.edges.raw_client import request, say
from tests.upstream.raw_server import chunked

BOM = b"\xef\xbb\xbf"
EVENTS = EVENT + COMPLETED
DOCUMENT = json.dumps(json.loads(COMPLETED.removeprefix(b"data: "))["response"]).encode()
SSE, JSON = b"content-type: text/event-stream", b"content-type: application/json"


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def in_three(encode: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: encode(data[:50]) + encode(data[50:90]) + encode(data[90:])


FORMS: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
    "JSON as a stream": (DOCUMENT, (SSE,)),
    "events as JSON": (EVENTS, (JSON,)),
    "JSON without a type": (DOCUMENT, ()),
    "events without a type": (EVENTS, ()),
    "events as text": (EVENTS, (b"content-type: text/plain",)),
    "JSON behind a mark": (BOM + DOCUMENT, (JSON,)),
    "events behind a mark": (BOM + EVENTS, (SSE,)),
    "JSON behind a mark, as a stream": (BOM + DOCUMENT, (SSE,)),
    "JSON behind blanks, as a stream": (b"\n \n\n" + DOCUMENT, (SSE,)),
    "events behind blank lines, as JSON": (b"\r\n\r\n: hello\n\n" + EVENTS, (JSON,)),
}


@pytest.mark.parametrize("asked", [ASK, ASK_STREAM], ids=["unstreamed", "streamed"])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("size", [1, 10_000])
def test_the_first_bytes_decide(
    program: Gateway, upstream: FaultServer, name: str, asked: dict[str, object], size: int
) -> None:
    body, headers = FORMS[name]
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    act = Act((chunked(*chunks, headers=headers),))
    answer = say(program.url, request(program.key, asked, headers=upstream.play(act))).only
    assert (answer.body, answer.whole) == (body, True)
    expect_usage(program.record(answer.request_id))


CODINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "several gzip members": (b"gzip", in_three(gzip.compress)),
    "deflate": (b"deflate", zlib.compress),
    "raw deflate": (b"deflate", raw_deflate),
    "zstd": (b"zstd", zstd),
    "several zstd frames": (b"zstd", in_three(zstd)),
    "a stack": (b"deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
}
EVERY_CODING = pytest.mark.parametrize("name", CODINGS)


@EVERY_CODING
@pytest.mark.parametrize("streams", [True, False])
def test_every_coding_is_read(program: Gateway, upstream: FaultServer, name: str, streams: bool) -> None:
    coding, encode = CODINGS[name]
    body = encode(EVENTS if streams else DOCUMENT)
    headers = (SSE if streams else JSON, b"content-encoding: " + coding)
    act = Act((chunked(*(body[at : at + 7] for at in range(0, len(body), 7)), headers=headers),))
    asked = ASK_STREAM if streams else ASK
    answer = say(program.url, request(program.key, asked, headers=upstream.play(act))).only
    assert (answer.body, answer.whole) == (body, True)
    assert answer.value("content-encoding") == coding.decode()
    expect_usage(program.record(answer.request_id))


@EVERY_CODING
@pytest.mark.parametrize("streams", [True, False])
def test_a_coded_answer_that_is_cut_is_truncated(
    program: Gateway, upstream: FaultServer, name: str, streams: bool
) -> None:
    coding, encode = CODINGS[name]
    body = encode(EVENTS if streams else DOCUMENT)
    body = body[: len(body) // 2]
    act = Act((chunked(body, headers=(SSE if streams else JSON, b"content-encoding: " + coding)),))
    asked = ASK_STREAM if streams else ASK
    answer = say(program.url, request(program.key, asked, headers=upstream.play(act))).only
    assert (answer.body, answer.whole) == (body, True)
    record = program.record(answer.request_id)
    assert (record["outcome"], record["usage_source"]) == ("truncated", "estimated")
    assert record["error_detail"]


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"zstd"])
@pytest.mark.parametrize("streams", [True, False])
def test_one_that_was_decoded_on_the_way_is_read(
    program: Gateway, upstream: FaultServer, coding: bytes, streams: bool
) -> None:
    """Some proxies decode an answer and leave the header that says that it is coded."""
    body, asked = (EVENTS, ASK_STREAM) if streams else (DOCUMENT, ASK)
    headers = (SSE if streams else JSON, b"content-encoding: " + coding)
    act = Act((chunked(body[:100], body[100:], headers=headers),))
    answer = say(program.url, request(program.key, asked, headers=upstream.play(act))).only
    assert (answer.body, answer.whole) == (body, True)
    expect_usage(program.record(answer.request_id))


def test_damage_is_told(program: Gateway, upstream: FaultServer) -> None:
    coded = gzip.compress(EVENT * 3)[:-20]
    act = Act((chunked(coded, b"rubbish " * 9, headers=(SSE, b"content-encoding: gzip")),))
    answer = say(program.url, request(program.key, ASK_STREAM, headers=upstream.play(act))).only
    record = program.record(answer.request_id)
    assert record["outcome"] == "truncated"
    assert record["error_detail"] == "Upstream's answer does not decode by its Content-Encoding."


def expect_usage(record: dict[str, object]) -> None:
    names = ("outcome", "usage_source", "input_tokens", "output_tokens", "response_id", "model_served")
    assert [record[name] for name in names] == ["completed", "reported", 11, 7, "resp_e", "gpt-5.1"]
