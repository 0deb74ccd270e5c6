"""The ordinary routes' doors: who may ask for what."""

import json

import pytest

from app.web.doors.responses import PREFIXES
from tests.gateway.house import House
from tests.web.front import ADMIN_KEY, Answer, Front

ADMIN = f"authorization: Bearer {ADMIN_KEY}"


@pytest.mark.parametrize("who", ["client", "admin"])
async def test_the_api_is_described_to_holders_of_a_key(front: Front, who: str) -> None:
    headers = [ADMIN] if who == "admin" else []
    answer = await front.ask("GET", "/openapi.json", *headers, key=front.key if who == "client" else None)
    assert answer.status == 200
    document = json.loads(answer.body)
    for prefix in PREFIXES:
        route = document["paths"][f"{prefix}/responses"]
        assert set(route) == {"post", "get"}
        assert set(route["post"]["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
        assert route["post"]["security"] == [{"client_key": []}]
        assert f"{prefix}/key" in document["paths"]
    names = [method["operationId"] for path in document["paths"].values() for method in path.values()]
    assert len(names) == len(set(names))
    assert "client_key" in document["components"]["securitySchemes"]
    again = await front.ask("GET", "/openapi.json", ADMIN)
    assert again.body == answer.body


async def test_the_api_is_not_described_to_others(front: Front) -> None:
    (await front.ask("GET", "/openapi.json")).is_ours(401, "authentication")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_need_no_key(front: Front, path: str) -> None:
    answer = await front.ask("GET", path)
    assert (answer.status, answer.header("content-type")) == (200, "application/json")


async def test_metrics_are_for_this_machine(front: Front) -> None:
    answer = await front.ask("GET", "/metrics")
    assert (answer.status, answer.body) == (200, b"# metrics\n")


@pytest.mark.parametrize("host", ["localhost:80", "LOCALHOST", "127.0.0.1", "127.9.9.9:1", "[::1]:8787"])
async def test_metrics_of_this_machine_by_its_names(front: Front, host: str) -> None:
    assert (await get_metrics(front, host)).status == 200


@pytest.mark.parametrize("host", ["gateway.example.com", "10.0.0.1", "localhost.evil.example", "127.0.0.1.x", "[::2]"])
async def test_metrics_by_another_name_need_the_admin_key(front: Front, host: str) -> None:
    """That is how a proxy beside us asks for whom it does not tell."""
    (await get_metrics(front, host)).is_ours(401, "authentication")
    assert (await get_metrics(front, host, ADMIN)).status == 200


async def test_metrics_for_a_proxy_that_tells_nothing_need_the_admin_key(front: Front) -> None:
    """nginx, unless told otherwise: HTTP/1.0, our own address as the Host, nothing of the client."""
    (await get_metrics(front, "127.0.0.1:8787", version="1.0")).is_ours(401, "authentication")


async def get_metrics(front: Front, host: str, *headers: str, version: str = "1.1") -> Answer:
    client = await front.connect()
    client.send("\r\n".join([f"GET /metrics HTTP/{version}", f"host: {host}", *headers, "", ""]).encode())
    answer = await client.answer()
    await client.close()
    return answer


@pytest.mark.parametrize(
    "forwarded",
    [
        "x-forwarded-for: 127.0.0.1",
        "X-Forwarded-Proto: https",
        "x-forwarded-host: localhost",
        "forwarded: for=127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "via: 1.1 proxy",
        "cf-connecting-ip: 127.0.0.1",
    ],
)
async def test_metrics_through_a_proxy_need_the_admin_key(front: Front, forwarded: str) -> None:
    (await front.ask("GET", "/metrics", forwarded)).is_ours(401, "authentication")
    (await front.ask("GET", "/metrics", forwarded, key=front.key)).is_ours(401, "authentication")
    assert (await front.ask("GET", "/metrics", forwarded, ADMIN)).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/api/server"),
        ("GET", "/admin/api/keys"),
        ("POST", "/admin/api/keys"),
        ("POST", "/admin/api/keys/x/revoke"),
        ("GET", "/admin/api/clients"),
        ("GET", "/admin/api/clients/alice"),
        ("GET", "/admin/api/usage?by=request"),
    ],
)
@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", f"Bearer {ADMIN_KEY}x", f"Bearer {ADMIN_KEY[:-1]}", f"Basic {ADMIN_KEY}", "Bearer \xff"],
)
async def test_the_admin_api_is_for_the_admin_key(
    front: Front, method: str, path: str, authorization: str | None
) -> None:
    body = b'{"client":"mallory"}' if method == "POST" else b""
    headers = ["content-type: application/json"] + ([f"authorization: {authorization}"] if authorization else [])
    error = (await front.ask(method, path, *headers, body=body)).is_ours(401, "authentication")
    assert ADMIN_KEY[:-1] not in error["message"]
    (await front.ask(method, path, "content-type: application/json", key=front.key, body=body)).is_ours(
        401, "authentication"
    )


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("route", ["key", "usage"])
async def test_an_account_is_for_its_client(front: Front, house: House, prefix: str, route: str) -> None:
    (await front.ask("GET", f"{prefix}/{route}")).is_ours(401, "authentication")
    (await front.ask("GET", f"{prefix}/{route}", ADMIN)).is_ours(401, "authentication")
    assert house.observer.refusals["authentication"] == 2


async def test_a_key_made_by_the_admin_api_opens_at_once_and_shuts_at_once(front: Front) -> None:
    made = await front.ask("POST", "/admin/api/keys", ADMIN, "content-type: application/json", body=b'{"client":"bob"}')
    assert made.status == 201
    key = json.loads(made.body)
    assert set(key) == {"client", "key_id", "key"}
    call = ["POST", "/v1/responses", "content-type: application/json"]
    (await front.ask(*call, key=key["key"], body=b"[]")).is_ours(400, "invalid_request")
    revoked = await front.ask("POST", f"/admin/api/keys/{key['key_id']}/revoke", ADMIN)
    assert json.loads(revoked.body)["state"] == "revoked"
    (await front.ask(*call, key=key["key"], body=b"[]")).is_ours(401, "authentication")


@pytest.mark.parametrize("since", ["999999999w", "0001-01-01T00:00%2B23:59", "1970-01-01"])
async def test_a_moment_before_all_records_is_the_beginning(front: Front, since: str) -> None:
    answer = await front.ask("GET", f"/v1/usage?since={since}", key=front.key)
    assert answer.status == 200
    assert json.loads(answer.body)["since"] == "1970-01-01T00:00:00.000000Z"
