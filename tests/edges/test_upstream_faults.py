"""Every way in which an upstream fails: exactly which bytes the client gets, exactly which record is kept, how soon.

After each fault a good call gets its own answer and not a byte of another's.
"""

import gzip
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.client import ASK, ASK_STREAM, Answer, Body
from tests.e2e.program import Gateway
from tests.edges.conftest import FIRST_BYTE_SECONDS, IDLE_SECONDS
from tests.edges.fault_server import COMPLETED, EVENT, GOOD, GOOD_BODY, Act, Ending, FaultServer
from tests.edges.raw_client import Heard, ours, request, say
from tests.upstream.raw_server import sized

AT_ONCE_SECONDS = 2.0
"""A busy machine's allowance for what takes milliseconds."""

HEAD = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json"
HTML = b"content-type: text/html; charset=utf-8"
TEXT = b"content-type: text/plain"
EVENTS = b"content-type: text/event-stream"
STREAM = HEAD + EVENTS + b"\r\ntransfer-encoding: chunked\r\n\r\n"
UNFRAMED = HEAD + EVENTS + b"\r\n\r\n"
LAST = b"0\r\n\r\n"
ERROR = b'{"error":{"message":"No.","code":"because","type":"server_error"}}'
DOCUMENT = (
    b'{"id":"resp_d","object":"response","status":"completed","model":"gpt-5.1",'
    b'"usage":{"input_tokens":11,"output_tokens":7,"total_tokens":18}}'
)
LARGE = {"model": "gpt-5.1", "input": "x" * 900_000}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


BEGUN = STREAM + chunk(EVENT)


def act(*pieces: bytes, ending: Ending = "keep", reads_body: bool = True) -> Act:
    return Act(pieces, ending, reads_body)


class Weighed:
    """One call at one act: what was heard, and the one record of it."""

    def __init__(self, edge: Gateway, fault_server: FaultServer, fault: Act, body: Body) -> None:
        self.heard: Heard = say(edge.url, request(edge.key, body, headers=fault_server.play(fault)))
        self.answer: Answer = self.heard.only
        self.record: dict[str, Any] = edge.record(self.answer.request_id)
        self._check_the_next_call(edge)

    @staticmethod
    def _check_the_next_call(edge: Gateway) -> None:
        good = say(edge.url, request(edge.key)).only
        assert (good.status, good.body, good.whole) == (200, GOOD_BODY, True)
        assert edge.record(good.request_id)["outcome"] == "completed"

    def is_recorded(self, **expected: Any) -> None:  # noqa: ANN401 - whatever a record holds
        assert {name: self.record[name] for name in expected} == expected

    def is_refused(self, status: int, error_type: str, outcome: str, usage_source: str) -> None:
        assert (self.answer.status, self.answer.error_type) == (status, error_type)
        ours(self.answer)
        self.is_recorded(
            outcome=outcome, http_status=status, error_type=error_type, usage_source=usage_source, bytes_out=0
        )


def without_idle_connection(edge: Gateway, fault_server: FaultServer) -> None:
    """The next call will have a connection of its own, which no rule allows to be replaced."""
    last = act(sized(DOCUMENT, JSON, b"connection: close"), ending="close")
    assert say(edge.url, request(edge.key, headers=fault_server.play(last))).only.status == 200


NOT_AN_ANSWER = {
    "reset after the request": act(ending="reset"),
    "closed after the request": act(ending="close"),
    "half a status line, then closed": act(b"HTTP/1.1 2", ending="close"),
    "half a head, then closed": act(HEAD + b"content-type: text/ev", ending="close"),
    "half a head, then reset": act(HEAD + b"content-type: text/ev", ending="reset"),
    "an interim answer, then closed": act(b"HTTP/1.1 103 Early Hints\r\n\r\n", ending="close"),
    "interim answers for ever": act(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, ending="flood"),
    "headers for ever": act(HEAD, b"x: y\r\n" * 500, ending="flood"),
    "a status line for ever": act(b"HTTP/1.1 200 ", b"a" * 4000, ending="flood"),
    "line ends for ever": act(b"\r\n" * 2000, ending="flood"),
    "HTTP/0.9": act(b"<html>hello</html>", ending="close"),
    "HTTP/2": act(b"\0\0\x12\4\0\0\0\0\0", ending="hold"),
    "SSH": act(b"SSH-2.0-OpenSSH_9.6\r\n", ending="hold"),
    "a TLS alert": act(b"\x15\x03\x01\x00\x02\x02\x16", ending="close"),
    "ICY": act(b"ICY 200 OK\r\n\r\n", ending="close"),
    "status 2000": act(b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n"),
    "status 099": act(b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n"),
    "status abc": act(b"HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n"),
    "status 999": act(b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n"),
    "HTTP/1.2": act(b"HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n"),
    "a header without a colon": act(HEAD + b"nonsense\r\n\r\n"),
    "a space before the colon": act(HEAD + b"content-length : 0\r\n\r\n"),
    "a NUL": act(HEAD + b"x: a\0b\r\ncontent-length: 0\r\n\r\n"),
    "a folded header": act(HEAD + b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n"),
    "a bare LF": act(HEAD + b"x: a\nb: c\r\ncontent-length: 0\r\n\r\n"),
    "a header of 200 KB": act(HEAD + b"x: " + b"a" * 200_000 + b"\r\ncontent-length: 0\r\n\r\n"),
    "5,000 headers": act(HEAD + b"a: b\r\n" * 5000 + b"content-length: 0\r\n\r\n"),
    "two lengths": act(HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi!"),
    "a length and chunks": act(HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a negative length": act(HEAD + b"content-length: -2\r\n\r\nhi"),
    "gzip in transfer": act(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "an error, cut": act(sized(ERROR, JSON, status=b"400 No")[:-5], ending="close"),
    "an error, reset": act(sized(ERROR, JSON, status=b"500 No")[:-5], ending="reset"),
    "never read, reset": act(reads_body=False, ending="reset"),
}


@pytest.mark.parametrize("name", NOT_AN_ANSWER)
def test_what_is_no_answer_is_502(edge: Gateway, fault_server: FaultServer, name: str) -> None:
    fault = NOT_AN_ANSWER[name]
    without_idle_connection(edge, fault_server)
    call = Weighed(edge, fault_server, fault, ASK_STREAM)
    call.is_refused(502, "upstream_protocol_error", "upstream_error", "none")
    assert call.heard.seconds < AT_ONCE_SECONDS
    assert (fault.served, call.record["retry_count"]) == (1, 0), "it may be billed: it must not be asked again"


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_connection_used_before_that_ends_is_asked_again_at_most_once(
    edge: Gateway, fault_server: FaultServer, ending: Ending
) -> None:
    """On one machine a round trip is as short as the upstream's answer: whether it is asked again is a race."""
    assert say(edge.url, request(edge.key)).only.whole  # leaves a connection
    fault = act(ending=ending)
    call = Weighed(edge, fault_server, fault, ASK_STREAM)
    call.is_refused(502, "upstream_protocol_error", "upstream_error", "none")
    assert fault.served == call.record["retry_count"] + 1 <= 2


SILENT = {
    "nothing": (act(ending="hold"), ASK_STREAM),
    "nothing, and the request is not read": (act(reads_body=False, ending="hold"), LARGE),
    "half a head": (act(HEAD, ending="hold"), ASK_STREAM),
    "an interim answer": (act(b"HTTP/1.1 103 Early Hints\r\n\r\n", ending="hold"), ASK),
}


@pytest.mark.parametrize("name", SILENT)
def test_no_first_byte_is_504(edge: Gateway, fault_server: FaultServer, name: str) -> None:
    fault, body = SILENT[name]
    call = Weighed(edge, fault_server, fault, body)
    call.is_refused(504, "upstream_timeout", "timeout", "none")
    assert FIRST_BYTE_SECONDS <= call.heard.seconds < FIRST_BYTE_SECONDS + AT_ONCE_SECONDS
    assert fault.served == 1
    assert fault.gone.acquire(timeout=AT_ONCE_SECONDS), "upstream was not hung up on"


def test_an_error_that_stalls_is_504_and_costs_nothing(edge: Gateway, fault_server: FaultServer) -> None:
    fault = act(sized(ERROR, JSON, status=b"400 No")[:-5], ending="hold")
    call = Weighed(edge, fault_server, fault, ASK)
    call.is_refused(504, "upstream_timeout", "timeout", "none")
    assert IDLE_SECONDS <= call.heard.seconds < IDLE_SECONDS + AT_ONCE_SECONDS


def elsewhere(status: int) -> Act:
    return act(sized(b"", b"location: http://127.0.0.1:9/", status=b"%d Elsewhere" % status))


ERRORS_CHUNKED = b"HTTP/1.1 500 No\r\n" + JSON + b"\r\ntransfer-encoding: chunked\r\n\r\n"
REPLACED: Mapping[str, tuple[Act, str]] = {
    **{f"redirect {s}": (elsewhere(s), "upstream_redirect") for s in (300, 301, 302, 303, 304, 307, 308)},
    "101": (
        act(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", ending="hold"),
        "upstream_redirect",
    ),
    "401": (act(sized(ERROR, JSON, status=b"401 No")), "upstream_auth"),
    "401 that never ends": (act(sized(ERROR, JSON, status=b"401 No")[:-5], ending="hold"), "upstream_auth"),
    "403 in HTML": (act(sized(b"<html>no", HTML, status=b"403 No")), "upstream_error"),
    "400 in HTML": (act(sized(b"<html>no", HTML, status=b"400 No")), "upstream_error"),
    "404 in HTML that says it is text": (act(sized(b" <!DOCTYPE html>", TEXT, status=b"404 No")), "upstream_error"),
    "500 in HTML": (act(sized(b"<html>no", HTML, status=b"500 No")), "upstream_error"),
    "500 in HTML that says it is JSON": (act(sized(b"<html>no", JSON, status=b"500 No")), "upstream_error"),
    "500 that is a JSON array": (act(sized(b"[]", JSON, status=b"500 No")), "upstream_error"),
    "502 in text": (act(sized(b"bad gateway", TEXT, status=b"502 No")), "upstream_error"),
    "503 without a body": (act(sized(b"", status=b"503 No")), "upstream_error"),
    "500 as a stream": (act(ERRORS_CHUNKED + chunk(b'data: {"error":1}\n\n') + LAST), "upstream_error"),
    "400 in gzip that is cut": (
        act(sized(gzip.compress(ERROR)[:-9], JSON, b"content-encoding: gzip", status=b"400 No")),
        "upstream_error",
    ),
    "400 as a bomb": (
        act(sized(gzip.compress(bytes(50_000_000)), JSON, b"content-encoding: gzip", status=b"400 No")),
        "upstream_error",
    ),
    "500 for ever": (act(ERRORS_CHUNKED, chunk(b" " * 16_000), ending="flood"), "upstream_error"),
    "400 of 2 MB": (act(sized(b" " * 2_000_000, JSON, status=b"400 No")), "upstream_error"),
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_must_not_pass_is_replaced(edge: Gateway, fault_server: FaultServer, name: str) -> None:
    fault, error_type = REPLACED[name]
    call = Weighed(edge, fault_server, fault, ASK_STREAM)
    call.is_refused(502, error_type, "upstream_error", "none")
    assert call.answer.value("location") is None
    assert call.answer.value("x-should-retry") == ("false" if error_type == "upstream_auth" else None)
    assert (fault.served, call.heard.seconds < AT_ONCE_SECONDS) == (1, True)


VERBATIM: Mapping[str, tuple[int, bytes, tuple[bytes, ...], str]] = {
    "400": (400, ERROR, (JSON,), "because"),
    "402": (402, ERROR, (JSON,), "because"),
    "403": (403, ERROR, (JSON,), "because"),
    "404 in text": (404, b"not here", (TEXT,), "upstream_error"),
    "404 without a body": (404, b"", (), "upstream_error"),
    "407": (407, ERROR, (JSON, b"proxy-authenticate: Basic"), "because"),
    "413": (413, ERROR, (JSON,), "because"),
    "426": (426, ERROR, (JSON,), "because"),
    "429": (429, ERROR, (JSON, b"retry-after: 7", b"x-ratelimit-remaining-requests: 0"), "because"),
    "500": (500, ERROR, (JSON,), "because"),
    "503": (503, b'{"error":{"type":"busy"}}', (JSON, b"retry-after: 7"), "busy"),
    "529": (529, b"{}", (JSON,), "upstream_error"),
}


@pytest.mark.parametrize("name", VERBATIM)
@pytest.mark.parametrize("framing", ["length", "end of file", "early"])
def test_errors_pass_verbatim(edge: Gateway, fault_server: FaultServer, name: str, framing: str) -> None:
    status, body, headers, error_type = VERBATIM[name]
    answer = sized(body, *headers, status=b"%d Oops" % status)
    if framing == "end of file":
        answer = answer.replace(b"\r\ncontent-length: %d" % len(body), b"")
    early = framing == "early"  # before the request is read, and then no more is read of it
    fault = act(answer, ending="keep" if framing == "length" else "close", reads_body=not early)
    call = Weighed(edge, fault_server, fault, LARGE if early else ASK)
    assert (call.answer.status, call.answer.body, call.answer.whole) == (status, body, True)
    for line in headers:
        name_, value = line.decode().split(": ")
        assert call.answer.value(name_) == (None if name_.startswith("proxy-") else value)
    call.is_recorded(
        outcome="upstream_error", http_status=status, error_type=error_type, usage_source="none", bytes_out=len(body)
    )
    assert fault.served == 1


CUT = ("truncated", "upstream_protocol_error", "estimated")
SILENCE = ("timeout", "upstream_timeout", "estimated")
COMPLETE = ("completed", None, "reported")
WEIGHED = ("completed", "reported")
BROKEN_OFF: Mapping[str, tuple[Act, Body, bytes, str, str | None, str]] = {
    "closed": (act(BEGUN, ending="close"), ASK_STREAM, EVENT, *CUT),
    "reset": (act(BEGUN, ending="reset"), ASK_STREAM, EVENT, *CUT),
    "closed in a chunk": (
        act(BEGUN + b"20\r\ndata: {", ending="close"), ASK_STREAM, EVENT + b"data: {", *CUT,
    ),
    "reset in a chunk": (
        act(BEGUN, b"20\r\ndata: {", ending="reset"), ASK_STREAM, EVENT + b"data: {", *CUT,
    ),
    "reset without framing": (
        act(UNFRAMED + EVENT, ending="reset"), ASK_STREAM, EVENT, *CUT,
    ),
    "closed after the head": (act(STREAM, ending="close"), ASK_STREAM, b"", *CUT),
    "silent": (act(BEGUN, ending="hold"), ASK_STREAM, EVENT, *SILENCE),
    "silent after the head": (act(STREAM, ending="hold"), ASK_STREAM, b"", *SILENCE),
    "a chunk size that is none": (act(BEGUN, b"zz\r\n"), ASK_STREAM, EVENT, *CUT),
    "that in the same piece": (act(BEGUN + b"zz\r\n"), ASK_STREAM, EVENT, *CUT),
    "a negative chunk size": (act(BEGUN, b"-1\r\n"), ASK_STREAM, EVENT, *CUT),
    "a huge chunk size": (act(BEGUN, b"f" * 17 + b"\r\n"), ASK_STREAM, EVENT, *CUT),
    "a chunk longer than said": (
        act(BEGUN, b"3\r\nhello\r\n"), ASK_STREAM, EVENT + b"hel", *CUT,
    ),
    "a chunk extension for ever": (
        act(BEGUN + b"5;", b"a" * 4000, ending="flood"), ASK_STREAM, EVENT, *CUT,
    ),
    "trailers for ever": (
        act(BEGUN + b"0\r\n", b"x: y\r\n" * 500, ending="flood"), ASK_STREAM, EVENT, *CUT,
    ),
    "a length that is too long": (
        act(HEAD + JSON + b"\r\ncontent-length: 100\r\n\r\n" + b'{"usage":', ending="close"),
        ASK, b'{"usage":', *CUT,
    ),
    "a length that is too long, of a whole document": (
        act(HEAD + JSON + b"\r\ncontent-length: 999\r\n\r\n" + DOCUMENT, ending="close"),
        ASK, DOCUMENT, *COMPLETE,
    ),
    "reset after the terminal event": (
        act(STREAM + chunk(GOOD_BODY), ending="reset"), ASK_STREAM, GOOD_BODY, *COMPLETE,
    ),
    "silent after the terminal event": (
        act(STREAM + chunk(GOOD_BODY), ending="hold"), ASK_STREAM, GOOD_BODY, *COMPLETE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_OFF)
def test_what_breaks_off_is_passed_so_far_and_has_no_clean_end(
    edge: Gateway, fault_server: FaultServer, name: str
) -> None:
    fault, body, passed, outcome, error_type, usage_source = BROKEN_OFF[name]
    call = Weighed(edge, fault_server, fault, body)
    assert (call.answer.status, call.answer.body, call.answer.whole) == (200, passed, False)
    assert call.heard.ending in ("closed", "reset")
    call.is_recorded(outcome=outcome, http_status=200, error_type=error_type, usage_source=usage_source)
    call.is_recorded(bytes_out=len(passed), retry_count=0)
    assert fault.served == 1
    assert call.heard.seconds < (IDLE_SECONDS if "silent" in name else 0) + AT_ONCE_SECONDS


ODD: Mapping[str, tuple[Act, Body, int, bytes, str, str]] = {
    "interim answers first": (
        act(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", GOOD),
        ASK_STREAM, 200, GOOD_BODY, *WEIGHED,
    ),
    "an upgrade nobody asked for": (
        act(sized(DOCUMENT, b"connection: upgrade", b"upgrade: websocket", JSON)), ASK, 200, DOCUMENT, *WEIGHED,
    ),
    "HTTP/1.0": (
        act(b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n\r\n" + DOCUMENT, ending="close"), ASK, 200, DOCUMENT, *WEIGHED,
    ),
    "without framing": (act(UNFRAMED + GOOD_BODY, ending="close"), ASK_STREAM, 200, GOOD_BODY, *WEIGHED),
    "early": (act(GOOD, reads_body=False, ending="close"), {**LARGE, "stream": True}, 200, GOOD_BODY, *WEIGHED),
    "a document where a stream was asked for": (act(sized(DOCUMENT, JSON)), ASK_STREAM, 200, DOCUMENT, *WEIGHED),
    "a stream where a document was asked for": (act(GOOD), ASK, 200, GOOD_BODY, *WEIGHED),
    "a page": (act(sized(b"<html>hello", HTML)), ASK_STREAM, 200, b"<html>hello", "truncated", "none"),
    "nothing": (act(sized(b"", JSON)), ASK, 200, b"", "failed", "none"),
    "204": (act(b"HTTP/1.1 204 No Content\r\n\r\n"), ASK, 204, b"", "failed", "none"),
    "a stream that ends early": (act(BEGUN + LAST), ASK_STREAM, 200, EVENT, "truncated", "estimated"),
    "a stream in gzip": (
        act(sized(gzip.compress(GOOD_BODY, mtime=0), EVENTS, b"content-encoding: gzip")),
        ASK_STREAM, 200, gzip.compress(GOOD_BODY, mtime=0), *WEIGHED,
    ),
    "a bomb": (
        act(sized(gzip.compress(bytes(30_000_000), mtime=0), JSON, b"content-encoding: gzip")),
        ASK, 200, gzip.compress(bytes(30_000_000), mtime=0), "completed", "none",
    ),
    "surplus behind a body": (
        act(GOOD + sized(b"stolen", TEXT)), ASK_STREAM, 200, GOOD_BODY, *WEIGHED,
    ),
    "surplus a moment later": (
        act(GOOD, sized(b"stolen", TEXT)), ASK_STREAM, 200, GOOD_BODY, *WEIGHED,
    ),
    "surplus behind 204": (
        act(b"HTTP/1.1 204 No Content\r\ncontent-length: 6\r\n\r\nstolen"), ASK, 204, b"", "failed", "none",
    ),
    "a length that is too short": (
        act(HEAD + EVENTS + b"\r\ncontent-length: %d\r\n\r\n" % len(EVENT) + EVENT + COMPLETED),
        ASK_STREAM, 200, EVENT, "truncated", "estimated",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_but_whole_is_passed_whole(edge: Gateway, fault_server: FaultServer, name: str) -> None:
    fault, body, status, passed, outcome, usage_source = ODD[name]
    call = Weighed(edge, fault_server, fault, body)
    assert (call.answer.status, call.answer.body, call.answer.whole) == (status, passed, True)
    assert call.heard.interim == 0, "upstream's interim answers are its own affair"
    assert call.answer.value("upgrade") is None
    call.is_recorded(outcome=outcome, http_status=status, usage_source=usage_source, bytes_out=len(passed))
    assert (fault.served, call.heard.seconds < AT_ONCE_SECONDS) == (1, True)
