"""Which headers cross: to upstream those that are listed, to the caller all but a few; in order, repeats kept."""

import http.client

import pytest

from tests.e2e.client import ASK, ASK_STREAM, dial, encoded, raw_request, receive
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, Script, document, head

CANARY = "canary-of-the-caller"
NOT_UPSTREAM = (
    "Cookie",
    "OpenAI-Organization",
    "OpenAI-Project",
    "ChatGPT-Account-ID",
    "X-Api-Key",
    "Api-Key",
    "X-Goog-Api-Key",
    "Proxy-Authorization",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Real-IP",
    "CF-Connecting-IP",
    "True-Client-IP",
    "Via",
    "Referer",
    "Sec-Fetch-User",
    "Traceparent",
    "Tracestate",
    "Baggage",
    "TE",
    "Keep-Alive",
    "X-Openrouter-Listed",
    "Originator",
    "X-Codex-Window-Id",
    "X-Portkey-Custom-Host",
    "Helicone-Target-Url",
    "X-Http-Method-Override",
    "X_Api_Key",
    "X-Unknown",
)
NOT_DOWNSTREAM = (
    "Set-Cookie",
    "Alt-Svc",
    "Strict-Transport-Security",
    "Clear-Site-Data",
    "WWW-Authenticate",
    "Access-Control-Allow-Origin",
    "OpenAI-Organization",
    "OpenAI-Project",
    "Proxy-Authenticate",
    "X-Listed",
)


@pytest.mark.parametrize("name", NOT_UPSTREAM)
def test_what_the_caller_alone_may_know(gateway: Gateway, replay: ReplayUpstream, name: str) -> None:
    script = document(b"{}")
    headers = {name: CANARY, "Connection": "keep-alive, X-Openrouter-Listed", **replay.play(script)}
    assert gateway.post(ASK, headers).status == 200
    (seen,) = script.seen
    assert CANARY not in repr(seen.headers)
    assert name.lower() not in [found for found, _ in seen.headers]


def test_the_servers_key_stands_in_the_callers_place(gateway: Gateway, replay: ReplayUpstream, canary_key: str) -> None:
    script = document(b"{}")
    assert gateway.post(ASK, replay.play(script)).status == 200
    (seen,) = script.seen
    assert [value for name, value in seen.headers if name == "authorization"] == [f"Bearer {canary_key}"]
    assert gateway.key not in repr(seen)
    assert seen.value("host") == replay.url.split("/")[2]


def test_other_headers_of_the_caller_cross_in_order(gateway: Gateway, replay: ReplayUpstream) -> None:
    script = document(b"{}")
    sent = [
        ("X-Title", "A"),
        ("x-openrouter-repeated", "1"),
        ("HTTP-Referer", "app"),
        ("X-OpenRouter-Repeated", "2"),
        ("x-stainless-empty", ""),
    ]
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=20)
    connection.putrequest("POST", "/v1/responses")
    fixed = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json", **replay.play(script)}
    for name, value in [*fixed.items(), *sent, ("Content-Length", str(len(encoded(ASK))))]:
        connection.putheader(name, value)
    connection.endheaders(encoded(ASK))
    assert connection.getresponse().read() == b"{}"
    connection.close()
    names = {name.lower() for name, _ in sent}
    assert [header for header in script.seen[0].headers if header[0] in names] == [(n.lower(), v) for n, v in sent]


@pytest.mark.parametrize("name", NOT_DOWNSTREAM)
@pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests"])
def test_what_binds_the_caller_to_upstream_stays(
    gateway: Gateway, replay: ReplayUpstream, name: str, status: str
) -> None:
    headers = [(name, "canary-of-upstream"), ("Connection", "keep-alive, X-Listed")]
    answer = gateway.post(ASK, replay.play(document(b"{}", status, headers)))
    assert answer.status == int(status[:3])
    assert "canary-of-upstream" not in repr(answer.headers)


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "206 Partial Content", "400 Bad Request", "529 Busy"])
def test_other_headers_of_upstream_cross_in_order(gateway: Gateway, replay: ReplayUpstream, status: str) -> None:
    headers = [
        ("X-Request-Id", "req_upstream"),
        ("openai-processing-ms", "12"),
        ("X-Repeated", "1"),
        ("Date", "Sun, 22 Nov 2026 20:00:00 GMT"),
        ("X-Repeated", "2"),
        ("Server", "upstream"),
        ("X-Empty", ""),
    ]
    answer = gateway.post(ASK, replay.play(document(b"{}", status, headers)))
    names = {name.lower() for name, _ in headers}
    assert answer.status == int(status[:3])
    assert [header for header in answer.headers if header[0] in names] == [(n.lower(), v) for n, v in headers]


def test_streams_say_that_they_must_not_be_buffered(gateway: Gateway, replay: ReplayUpstream) -> None:
    unsaid = Script(head([("Content-Type", "text/event-stream; charset=utf-8")]), [b": hi\n\n"], "close")
    answer = gateway.post(ASK_STREAM, replay.play(unsaid))
    assert (answer.value("cache-control"), answer.value("x-accel-buffering")) == ("no-cache, no-transform", "no")
    said = Script(head([("Content-Type", "text/event-stream"), ("Cache-Control", "private")]), [b": hi\n\n"], "close")
    answer = gateway.post(ASK_STREAM, replay.play(said))
    assert [value for name, value in answer.headers if name == "cache-control"] == ["private"]
    answer = gateway.post(ASK, replay.play(document(b"{}")))
    assert (answer.value("cache-control"), answer.value("x-accel-buffering")) == (None, None)


def test_the_upstream_key_in_a_header_stays(gateway: Gateway, replay: ReplayUpstream, canary_key: str) -> None:
    answer = gateway.post(ASK, replay.play(document(b"{}", headers=[("X-Debug", f"Bearer {canary_key}")])))
    assert (answer.status, answer.value("x-debug")) == (200, None)


def test_no_header_of_ours_tells_what_serves(gateway: Gateway, replay: ReplayUpstream) -> None:
    answer = gateway.post(ASK, replay.play(document(b"{}")))
    assert {"server", "date", "x-powered-by", "access-control-allow-origin"}.isdisjoint(dict(answer.headers))


def test_calls_share_a_connection_and_nothing_else(gateway: Gateway, replay: ReplayUpstream) -> None:
    """Two calls on one connection of the client's, each with the answer that is its own."""
    with dial(gateway.url) as connection:
        for body in (b'{"a":1}', b'{"b":2}'):
            script = document(body, headers=[("X-Own", body.decode())])
            connection.sendall(raw_request(gateway.key, ASK, headers=replay.play(script)))
            assert receive(connection, b"\r\n\r\n" + body).count(b"HTTP/1.1 200 ") == 1
