"""Workers without Redis say that limits hold for each of them only."""

from tests.conftest import GatewayStarter


def test_it_is_said_at_the_start(start_gateway: GatewayStarter, postgres_url: str) -> None:
    gateway = start_gateway("--workers", "2", WEIGHBRIDGE_DATABASE_URL=postgres_url)
    assert gateway.has_logged("without WEIGHBRIDGE_REDIS_URL each of 2 workers admits as much as the limits allow")
