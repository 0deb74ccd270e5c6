"""Where upstream sent its own `x-request-id`, ours was in no header: nobody could name the call to its operator."""

from collections.abc import Iterator

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, opened
from tests.e2e.program import Gateway
from tests.edges.fault_server import GOOD_BODY, Act, FaultServer
from tests.edges.raw_client import request, say
from tests.upstream.raw_server import sized

ORIGIN = "https://app.example.com"
PREFLIGHT = {"origin": ORIGIN, "access-control-request-method": "POST"}
JSON = b"content-type: application/json"
THEIRS = b"x-request-id: theirs-1"
NO_SUCH_MODEL = b'{"error":{"message":"No such model."}}'


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture
def program(start_gateway: GatewayStarter, upstream: FaultServer) -> Gateway:
    return start_gateway(WEIGHBRIDGE_UPSTREAM_URL=upstream.url, WEIGHBRIDGE_ALLOWED_ORIGINS=ORIGIN)


def test_every_answer_has_it(program: Gateway, upstream: FaultServer) -> None:
    """Of every route, and of what is refused before there is one."""
    key, admin = program.key, program.admin_key
    asked = [
        ("/key", key, "GET", {}),
        ("/v1/usage", key, "GET", {}),
        ("/usage?since=junk", key, "GET", {}),
        ("/healthz", None, "GET", {}),
        ("/readyz", None, "GET", {}),
        ("/metrics", admin, "GET", {}),
        ("/admin/api/server", admin, "GET", {}),
        ("/admin/api/server", key, "GET", {}),
        ("/nowhere", key, "GET", {}),
        ("/v1/responses", key, "GET", {}),
        ("/v1/responses", key, "PUT", {}),
        ("/v1/responses", "sk-wb-none", "POST", {}),
        ("/v1/responses", key, "OPTIONS", PREFLIGHT),
        ("/v1/responses", key, "POST", {"origin": "https://evil.example"}),
    ]
    for path, shown, method, headers in asked:
        with opened(program.url + path, shown, headers=headers, method=method) as call:
            answer = call.rest()
        ours = [value for name, value in answer.headers if name == "x-weighbridge-request-id"]
        assert len(ours) == 1, (path, method)
        assert ours[0] == answer.request_id
        assert ours[0].startswith("req_")
    for refused in (b"GET / HTTP/1.1\r\nhost: elsewhere\r\n\r\n", b"rubbish\r\n\r\n"):
        answer = say(program.url, refused).only
        assert answer.value("x-weighbridge-request-id") == answer.request_id


@pytest.mark.parametrize("theirs", [b"", THEIRS])
@pytest.mark.parametrize(
    ("status", "body"),
    [(b"200 OK", b'{"id":"resp_1","status":"completed"}'), (b"404 Not Found", NO_SUCH_MODEL), (b"401 No", b"{}")],
)
def test_upstreams_own_passes_and_is_kept(
    program: Gateway, upstream: FaultServer, theirs: bytes, status: bytes, body: bytes
) -> None:
    act = Act((sized(body, JSON, *([theirs] if theirs else []), status=status),))
    answer = say(program.url, request(program.key, ASK, headers=upstream.play(act))).only
    ours = answer.value("x-weighbridge-request-id")
    assert ours is not None
    record = program.record(ours)
    assert record["upstream_request_id"] == ("theirs-1" if theirs else None)
    if status.startswith(b"401"):  # an error of ours
        assert answer.json["error"]["metadata"]["request_id"] == ours
    else:
        assert answer.request_id == ("theirs-1" if theirs else ours)


def test_a_stream_has_it(program: Gateway) -> None:
    answer = say(program.url, request(program.key)).only
    assert answer.body == GOOD_BODY
    assert program.record(answer.value("x-weighbridge-request-id") or "")["outcome"] == "completed"
