"""Every error is the one body of the contract: of the tree, of the ordinary routes, of faults of our own."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import errors
from app.domain.errors import ApiError, InvalidRequest
from app.web.application import ORDINARY_BODY_BYTES, Application
from app.web.errors import error_answer
from tests.web.front import ADMIN_KEY, Front

TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ApiError)]
CONTRACT = {
    "invalid_request": 400,
    "authentication": 401,
    "model_not_allowed": 403,
    "origin_not_allowed": 403,
    "not_found": 404,
    "request_timeout": 408,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "misdirected_request": 421,
    "headers_too_large": 431,
    "upgrade_not_supported": 426,
    "rate_limited": 429,
    "insufficient_quota": 429,
    "upstream_unreachable": 502,
    "upstream_protocol_error": 502,
    "upstream_auth": 502,
    "upstream_redirect": 502,
    "upstream_error": 502,
    "overloaded": 503,
    "draining": 503,
    "storage_unavailable": 503,
    "upstream_timeout": 504,
}
NOT_TO_BE_RETRIED = {
    *("authentication", "model_not_allowed", "origin_not_allowed", "insufficient_quota", "upstream_auth"),
    "upstream_timeout",  # upstream may still be at work
}
RETRIED_LATER = {"overloaded", "draining", "storage_unavailable"}
ANY = st.text() | st.text(st.sampled_from('ab"\\\ud83d\udc4b\ud800'), max_size=5)  # lone surrogates, too
ADMIN = f"authorization: Bearer {ADMIN_KEY}"


def test_the_tree_is_the_contract() -> None:
    found = {kind.error_type: kind.status for kind in TREE if kind.error_type != "internal_error"}
    assert found == CONTRACT


@pytest.mark.parametrize("kind", TREE)
def test_an_error_is_rendered_as_the_contract_has_it(kind: type[ApiError]) -> None:
    status, headers, body = error_answer(kind("why", param="model"), "req_1")
    found = dict(headers)
    assert len(found) == len(headers)
    assert found[b"content-type"] == b"application/json"
    assert found[b"content-length"] == b"%d" % len(body)
    assert found[b"x-request-id"] == b"req_1"
    assert found.get(b"x-should-retry") == (b"false" if kind.error_type in NOT_TO_BE_RETRIED else None)
    assert (b"retry-after" in found) == (kind.error_type in RETRIED_LATER)
    assert json.loads(body) == {
        "error": {
            "code": status,
            "message": "why",
            "type": kind.type,
            "param": "model",
            "metadata": {"error_type": kind.error_type, "request_id": "req_1"},
        }
    }


@given(ANY, st.none() | ANY)
def test_any_words_can_be_rendered(message: str, param: str | None) -> None:
    """Also lone surrogates: JSON of a caller may hold them, and our message quote it."""
    _, _, body = error_answer(InvalidRequest(message, param=param), "req_1")
    error = json.loads(body)["error"]
    assert error["message"] == message.encode("utf-8", "replace").decode()
    assert (error["param"] is None) == (param is None)


def test_another_status_is_the_code_too() -> None:
    status, _, body = error_answer(InvalidRequest("no"), "req_1", 405)
    assert (status, json.loads(body)["error"]["code"]) == (405, 405)


def test_an_error_carries_its_own_headers() -> None:
    _, headers, _ = error_answer(errors.RateLimited("slow down", headers=(("retry-after", "7"),)), "req_1")
    assert (b"retry-after", b"7") in headers


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/key/", "/healthz/", "/docs", "/redoc", "/admin", "/static/x", "/%00"]
)
async def test_an_unknown_path_is_not_found(front: Front, path: str) -> None:
    answer = await front.ask("GET", path, key=front.key)
    answer.is_ours(404, "not_found")
    assert answer.header("location") is None


@pytest.mark.parametrize(("method", "path"), [("POST", "/healthz"), ("PUT", "/v1/key"), ("DELETE", "/admin/api/keys")])
async def test_a_wrong_method_is_told_the_right_ones(front: Front, method: str, path: str) -> None:
    answer = await front.ask(method, path, ADMIN)
    answer.is_ours(405, "invalid_request")
    assert answer.header("allow") in {"GET", "POST"}


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/admin/api/usage?by=banana", b""),
        ("GET", "/admin/api/usage?since=banana", b""),
        ("POST", "/admin/api/keys", b"nonsense"),
        ("POST", "/admin/api/keys", b"[]"),
        ("POST", "/admin/api/keys", b'{"client":"a","admin":true}'),
        ("POST", "/admin/api/keys", rb'{"client":"a","\ud800":1}'),
        ("POST", "/admin/api/keys", b'{"client":"a","%s":1}' % (b"x" * 50_000)),
        ("POST", "/admin/api/keys", b'{"client":"not a name"}'),
        ("POST", "/admin/api/keys", b'{"client":"a","expires_seconds":-1}'),
        ("PATCH", "/admin/api/groups/none", b'{"rpm":5}'),
        ("PATCH", "/admin/api/groups/students", b'{"rpm":true}'),
        ("PATCH", "/admin/api/groups/students", b'{"budget_tokens":{"day":"5"}}'),
    ],
)
async def test_a_request_that_does_not_fit_is_a_bad_request(
    front: Front, method: str, target: str, body: bytes
) -> None:
    answer = await front.ask(method, target, ADMIN, "content-type: application/json", body=body)
    error = answer.is_ours(400, "invalid_request")
    assert len(error["message"]) < 500


async def test_a_fault_of_ours_tells_nothing(front: Front, app: Application, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        secret = "the innermost"
        raise RuntimeError(secret)

    app.add_api_route("/fail", fail)
    answer = await front.ask("GET", "/fail")
    error = answer.is_ours(500, "internal_error")
    assert error["type"] == "server_error"
    assert "innermost" not in str(answer)
    assert "RuntimeError" not in str(answer)
    assert "innermost" in caplog.text, "the log has it"


@pytest.mark.parametrize("path", ["/admin/api/keys", "/admin/api/keys/x/rotate"])
async def test_nobody_fills_our_memory_without_a_key(front: Front, path: str) -> None:
    """FastAPI collects a body before it asks who sends it."""
    client = await front.connect()
    client.key = None
    client.request("POST", path, "content-type: application/json", "transfer-encoding: chunked")
    for _ in range(ORDINARY_BODY_BYTES // 50_000 + 1):
        client.send(b"c350\r\n" + b" " * 50_000 + b"\r\n")
    (await client.answer()).is_ours(413, "payload_too_large")
    await client.close()
