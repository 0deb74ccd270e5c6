"""Upstream says the server's key back, wherever it can: the client never gets it, and a good call follows."""

import json

import pytest

from tests.e2e.client import ASK, ASK_STREAM, Body
from tests.e2e.program import Gateway
from tests.edges.fault_server import COMPLETED, EVENT, GOOD_BODY, Act, Ending, FaultServer
from tests.edges.raw_client import request, say
from tests.upstream.raw_server import sized

JSON = b"content-type: application/json"
HEAD = b"HTTP/1.1 200 OK\r\n"
STREAM = HEAD + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DOCUMENT = b'{"id":"resp_d","object":"response","status":"completed","usage":null}'
ERROR = b'{"error":{"message":"No.","code":"because"}}'
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def echoes(key: bytes) -> dict[str, tuple[tuple[bytes, ...], Body, int, bytes | None, bool]]:
    """Name -> what upstream says, what was asked, and the status, body (None: an error of ours) and wholeness due."""
    third = len(key) // 3
    told = b"data: " + key
    return {
        "a header": ((sized(DOCUMENT, JSON, b"x-debug: Bearer " + key),), ASK, 200, DOCUMENT, True),
        "the reason": ((sized(DOCUMENT, JSON, status=b"200 " + key),), ASK, 200, DOCUMENT, True),
        "a redirect": ((sized(b"", b"location: http://127.0.0.1/" + key, status=b"307 No"),), ASK, 502, None, True),
        "a cookie": ((sized(DOCUMENT, JSON, b"set-cookie: k=" + key),), ASK, 200, DOCUMENT, True),
        "401": ((sized(b'{"error":"' + key + b'"}', JSON, status=b"401 No"),), ASK, 502, None, True),
        "400": ((sized(b'{"error":{"message":"' + key + b'"}}', JSON, status=b"400 No"),), ASK, 502, None, True),
        "the code of an error": (
            (sized(json.dumps({"error": {"code": key.decode()}}).encode(), JSON, status=b"429 No"),),
            ASK, 502, None, True,
        ),
        "a header of an error": ((sized(ERROR, JSON, b"x-debug: " + key, status=b"400 No"),), ASK, 400, ERROR, True),
        "500 in HTML": ((sized(b"<html>" + key, status=b"500 No"),), ASK, 502, None, True),
        "no HTTP": ((key + b"\r\n\r\n",), ASK, 502, None, True),
        "a status line": ((b"HTTP/1.1 " + key + b"\r\n\r\n",), ASK, 502, None, True),
        "a document": ((sized(b'{"debug":"' + key + b'"}', JSON),), ASK, 200, b"", False),
        "a stream": ((STREAM + chunk(EVENT), chunk(told) + LAST), ASK_STREAM, 200, EVENT, False),
        "a stream, over two chunks": (
            (STREAM + chunk(EVENT) + chunk(told[: 6 + third]) + chunk(told[6 + third :]) + LAST,),
            ASK_STREAM, 200, None, False,
        ),
        "a stream, in three pieces": (
            (STREAM + chunk(EVENT), chunk(told[: 6 + third]), chunk(key[third:-third]), chunk(key[-third:]) + LAST),
            ASK_STREAM, 200, EVENT + told[: 6 + 2 * third], False,
        ),
        "a stream, byte by byte": (
            (STREAM + chunk(EVENT), *(chunk(told[at : at + 1]) for at in range(len(told))), LAST),
            ASK_STREAM, 200, EVENT + told[:-1], False,
        ),
        "behind the terminal event": (
            (STREAM + chunk(GOOD_BODY), chunk(told) + LAST), ASK_STREAM, 200, None, False,
        ),
        "with the terminal event": ((STREAM + chunk(EVENT), chunk(COMPLETED + told)), ASK_STREAM, 200, EVENT, False),
        "a trailer": ((STREAM + chunk(GOOD_BODY) + b"0\r\nx: " + key + b"\r\n\r\n",), ASK_STREAM, 200, GOOD_BODY, True),
        "a chunk extension": (
            (STREAM + b"%x;k=%b\r\n%b\r\n" % (len(GOOD_BODY), key, GOOD_BODY) + LAST,),
            ASK_STREAM, 200, GOOD_BODY, True,
        ),
        "surplus": ((sized(DOCUMENT, JSON) + key,), ASK, 200, DOCUMENT, True),
        "an interim answer": (
            (b"HTTP/1.1 103 Early\r\nlink: " + key + b"\r\n\r\n" + sized(DOCUMENT, JSON),), ASK, 200, DOCUMENT, True,
        ),
        "the id of a response": (
            (STREAM + chunk(COMPLETED.replace(b"resp_e", key)) + LAST,), ASK_STREAM, 200, b"", False,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", echoes(b"x" * 60))
def test_no_client_gets_the_key(edge: Gateway, fault_server: FaultServer, canary_key: str, name: str) -> None:
    key = canary_key.encode()
    pieces, asked, status, body, whole = echoes(key)[name]
    ending: Ending = "close" if name in ("no HTTP", "a status line") else "keep"
    heard = say(edge.url, request(edge.key, asked, headers=fault_server.play(Act(pieces, ending))))
    answer = heard.only
    assert key not in heard.raw
    assert key not in answer.body
    assert (answer.status, answer.whole) == (status, whole)
    if name == "behind the terminal event":  # all of what comes before, or nothing when its record was not durable yet
        assert answer.body in (b"", GOOD_BODY)
    if body is not None and whole:
        assert answer.body == body
    elif body is not None:  # no more than that, and less when a machine in a hurry brought two pieces in one
        assert body.startswith(answer.body)
    record = edge.record(answer.request_id)
    assert canary_key not in repr(record)
    assert record["http_status"] == status
    if not whole and body is not None and b"completed" not in body:
        assert record["outcome"] in ("truncated", "completed")  # completed: the terminal event had come, and counts
    assert say(edge.url, request(edge.key)).only.body == GOOD_BODY
