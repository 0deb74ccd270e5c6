"""Pages of other origins, on the socket: refused before their body is read, or let in where their origin is named."""

from collections.abc import AsyncIterator

import pytest

from app.web.application import Application
from app.web.connection.request_rules import RequestRules
from app.web.cross_origin import CrossOrigin
from tests.gateway.house import COMPLETED, House
from tests.web.front import ADMIN_KEY, Front, running

APP = "https://app.example.com"
EVIL = "https://evil.example"
ADMIN = f"authorization: Bearer {ADMIN_KEY}"
PREFLIGHT = ("access-control-request-method: POST", "access-control-request-headers: authorization,content-type")


@pytest.fixture
async def named(house: House, app: Application) -> AsyncIterator[Front]:
    """A server that has APP among its origins."""
    origins = frozenset([APP.encode()])
    app.cross_origin = CrossOrigin(origins)
    async with running(house, app, rules=RequestRules(frozenset([b"127.0.0.1"]), origins)) as front:
        yield front


@pytest.mark.parametrize("header", [f"origin: {EVIL}", "origin: null", "sec-fetch-site: cross-site"])
async def test_a_page_is_refused_before_its_body_is_read(named: Front, house: House, header: str) -> None:
    client = await named.connect()
    client.request("POST", "/v1/responses", "content-type: application/json", header, length=1000)
    answer = await client.answer()
    answer.is_ours(403, "origin_not_allowed")
    assert answer.header("x-should-retry") == "false"
    assert answer.header("connection") == "close"
    assert answer.header("access-control-allow-origin") is None
    assert house.observer.refusals["origin_not_allowed"] == 1
    assert (house.upstream.calls, house.gateway.in_flight) == ([], 0)
    await client.close()


@pytest.mark.parametrize("target", ["/v1/responses", "/healthz", "/metrics", "/admin/api/keys", "/nowhere", "/"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "DELETE"])
async def test_no_route_is_open_to_other_pages(named: Front, target: str, method: str) -> None:
    answer = await named.ask(method, target, f"origin: {EVIL}", *PREFLIGHT, key=named.key)
    answer.is_ours(403, "origin_not_allowed")


async def test_a_preflight_of_a_named_origin(named: Front) -> None:
    asked = "authorization, Content-Type,x-stainless-os,openai-beta,x-title,cookie,x-forwarded-for,x-api-key"
    answer = await named.ask(
        "OPTIONS",
        "/api/v1/responses",
        f"origin: {APP}",
        PREFLIGHT[0],
        f"access-control-request-headers: {asked}",
        "access-control-request-private-network: true",
    )
    client_headers = dict(answer.headers)
    assert (answer.status, answer.body) == (204, b"")
    assert client_headers[b"access-control-allow-origin"] == APP.encode()
    assert client_headers[b"access-control-allow-methods"] == b"GET, POST, DELETE"
    granted = b"authorization, content-type, x-stainless-os, openai-beta, x-title"
    assert client_headers[b"access-control-allow-headers"] == granted
    assert client_headers[b"access-control-max-age"] == b"600"
    assert b"Origin" in client_headers[b"vary"]
    assert not {b"access-control-allow-credentials", b"access-control-allow-private-network"} & set(client_headers)


@pytest.mark.parametrize("target", ["/metrics", "/admin/api/keys", "/healthz", "/", "/v1/responsesx", "/nowhere"])
async def test_only_routes_of_clients_are_open_to_a_named_origin(named: Front, target: str) -> None:
    preflight = await named.ask("OPTIONS", target, f"origin: {APP}", *PREFLIGHT)
    assert preflight.status in {404, 405}
    answer = await named.ask("GET", target, f"origin: {APP}", ADMIN)
    for found in (preflight, answer):
        assert not [name for name, _ in found.headers if name.startswith(b"access-control-")]


async def test_options_that_are_no_preflight(named: Front) -> None:
    (await named.ask("OPTIONS", "/v1/responses", f"origin: {APP}")).is_ours(405, "invalid_request")


async def test_a_named_origin_may_call_and_read(named: Front, house: House) -> None:
    client = await named.connect()
    client.call(b'{"model":"m","stream":true}', f"origin: {APP}", "sec-fetch-site: cross-site")
    call = await house.upstream.next_call()
    assert not [name for name, _ in call.request.headers if name == b"origin" or name.startswith(b"sec-")]
    call.stream_head()
    call.data(COMPLETED)
    call.end()
    answer = await client.answer()
    assert (answer.status, answer.body, answer.whole) == (200, COMPLETED, True)
    assert answer.header("access-control-allow-origin") == APP
    assert answer.header("vary") == "Origin"
    exposed = answer.header("access-control-expose-headers") or ""
    kinds = ("requests", "tokens", "concurrency")
    rates = {f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining") for kind in kinds}
    assert rates | {"x-request-id", "retry-after"} <= set(exposed.split(", "))
    assert answer.header("access-control-allow-credentials") is None
    await client.close()


async def test_a_named_origin_may_read_its_errors(named: Front) -> None:
    answer = await named.ask("POST", "/v1/responses", f"origin: {APP}", "content-type: application/json", body=b"{}")
    answer.is_ours(401, "authentication")
    assert answer.header("access-control-allow-origin") == APP
    answer = await named.ask("GET", "/v1/key", f"origin: {APP}", key=named.key)
    assert (answer.status, answer.header("access-control-allow-origin")) == (200, APP)


async def test_without_named_origins_nothing_speaks_of_them(front: Front) -> None:
    for headers in ((), ("sec-fetch-site: same-origin",), ("origin: http://127.0.0.1",)):
        answer = await front.ask("GET", "/v1/key", *headers, key=front.key)
        assert answer.status == 200
        assert not [name for name, _ in answer.headers if name.startswith(b"access-control-")]
