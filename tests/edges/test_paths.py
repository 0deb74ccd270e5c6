"""Routes are decided on the path as it came. What is not exactly one of them is 404, and upstream hears nothing."""

import pytest

from tests.e2e.program import Gateway
from tests.edges.fault_server import GOOD_BODY, FaultServer
from tests.edges.raw_client import ours, request, say

UPSTREAM_LINE = b"POST /api/v1/responses HTTP/1.1"

TRICKS = [
    "//v1/responses",
    "///responses",
    "/v1//responses",
    "/v1/responses/",
    "/v1/responses//",
    "/v1/./responses",
    "/v1/../v1/responses",
    "/v1/responses/.",
    "/v1/responses/..",
    "/v1/x/../responses",
    "/../v1/responses",
    "/V1/responses",
    "/v1/Responses",
    "/api/v2/responses",
    "/api/v1/api/v1/responses",
    "/api/responses",
    "/v1/%72esponses",
    "/%76%31/responses",
    "/v1%2fresponses",
    "/v1/responses%2f",
    "/v1/responses%00",
    "/v1/responses%20",
    "/v1/responses%0d%0aHost:%20evil",
    "/v1/responses%3fx",
    "/v1/responses%23",
    "/v1/%2e%2e/v1/responses",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/responses;a=b",
    "/v1;a=b/responses",
    "/v1/responses&x=1",
    "/v1\\responses",
    "/\\localhost/v1/responses",
    "/v1/responses/..;/admin",
    "/@evil.example/v1/responses",
    "/http://evil.example/v1/responses",
    "//evil.example/v1/responses",
    "/:80/v1/responses",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/files",
    "/api/v1/credits",
    "/api/v1/keys",
    "/api/v1/generation",
    "/v1/responses.json",
    "/v1/responses*",
    "/responses'--",
    "/",
    "/" + "a/" * 2000,
]
"""POSTed with a good key. None of them is a route of ours, however anyone tidies it up."""

QUERIES = [
    "?",
    "??",
    "?&&",
    "?api-version=2026-01-01&a=%20b+c",
    "?%41=~'()*;,",
    "?stream=true",
    "?x=/../../key",
    "?a=b?c=d",
    "?%0d%0aHost:%20evil",
    "?" + "a" * 4000,
]


@pytest.mark.parametrize("target", TRICKS)
def test_another_path_is_no_route(edge: Gateway, fault_server: FaultServer, target: str) -> None:
    fault_server.forget()
    heard = say(edge.url, request(edge.key, target=target))
    assert heard.only.status in (404, 405)
    ours(heard.only)
    assert heard.only.value("location") is None
    assert say(edge.url, request(edge.key)).only.body == GOOD_BODY
    assert fault_server.heads[0].startswith(UPSTREAM_LINE)
    assert len(fault_server.heads) == 1


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_passes_as_it_came(edge: Gateway, fault_server: FaultServer, query: str) -> None:
    fault_server.forget()
    assert say(edge.url, request(edge.key, target="/v1/responses" + query)).only.body == GOOD_BODY
    line = f"POST /api/v1/responses{query if query != '?' else ''} HTTP/1.1"
    assert fault_server.lines == {line.encode()}


@pytest.mark.parametrize("target", ["/v1/responses#part", "/v1/responses\xff", "http://localhost/v1/responses"])
def test_what_can_be_no_target_is_400(edge: Gateway, fault_server: FaultServer, target: str) -> None:
    fault_server.forget()
    heard = say(edge.url, request(edge.key, target=target).replace("\xff".encode(), b"\xff"))
    assert (heard.only.status, heard.ending) == (400, "closed")
    assert fault_server.heads == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH"])
def test_another_method_reaches_nobody(edge: Gateway, fault_server: FaultServer, method: str) -> None:
    fault_server.forget()
    heard = say(edge.url, request(edge.key, b"", method=method))
    assert heard.only.status in (400, 403, 405, 426)
    ours(heard.only)
    assert fault_server.heads == []
