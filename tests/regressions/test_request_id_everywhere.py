"""Every answer has an `x-request-id`, as the contract has it: those of the ordinary routes had one with errors only."""

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import opened

ORIGIN = "https://app.example.com"
PREFLIGHT = {"origin": ORIGIN, "access-control-request-method": "POST"}
OURS = ("/key", "/usage", "/api/v1/key", "/v1/usage")
OPERATORS = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/admin/api/server", "/nowhere")


def test_every_route(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway(WEIGHBRIDGE_ALLOWED_ORIGINS=ORIGIN)
    keys = {**dict.fromkeys(OURS, gateway.key), **dict.fromkeys(OPERATORS, gateway.admin_key)}
    ids = [ids_of(gateway.url + path, key) for path, key in keys.items()]
    ids.append(ids_of(f"{gateway.url}/v1/responses", None, "OPTIONS", PREFLIGHT))
    assert [len(found) for found in ids] == [1] * len(ids)
    assert len({id_ for found in ids for id_ in found}) == len(ids)


@pytest.mark.parametrize("path", ["/usage?since=junk", "/nowhere"])
def test_an_error_has_the_one_of_its_body(start_gateway: GatewayStarter, path: str) -> None:
    gateway = start_gateway()
    with opened(gateway.url + path, gateway.key, method="GET") as call:
        answer = call.rest()
    assert answer.request_id == answer.json["error"]["metadata"]["request_id"]


def ids_of(url: str, key: str | None, method: str = "GET", headers: dict[str, str] | None = None) -> list[str]:
    with opened(url, key, headers=headers or {}, method=method) as call:
        return [value for name, value in call.rest().headers if name.lower() == "x-request-id"]
