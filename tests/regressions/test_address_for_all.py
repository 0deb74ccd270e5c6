"""Bound to every address, the banner names one that can be called: no client gets anywhere with http://0.0.0.0."""

import json

from tests.conftest import GatewayStarter


def test_the_banner_can_be_pasted(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway(WEIGHBRIDGE_HOST="0.0.0.0")  # noqa: S104 - as in a container
    assert gateway.url.startswith("http://127.0.0.1:")
    assert gateway.get("/key", gateway.key).status == 200
    assert json.loads((gateway.state_dir / "server.json").read_text())["url"] == gateway.url
