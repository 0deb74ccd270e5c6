"""Prometheus finds replicas by address and sends that as Host. With the admin key it may; a web page has no key."""

import pytest

from tests.e2e.client import opened
from tests.e2e.program import Gateway

FOREIGN = {"host": "10.1.2.3:8787"}


def status(gateway: Gateway, path: str, key: str | None, headers: dict[str, str]) -> int:
    with opened(gateway.url + path, key, headers=headers, method="GET") as call:
        return call.rest().status


def test_with_the_admin_key_under_any_host(gateway: Gateway) -> None:
    assert status(gateway, "/metrics", gateway.admin_key, FOREIGN) == 200
    assert status(gateway, "/metrics", gateway.admin_key, {}) == 200


@pytest.mark.parametrize("headers", [FOREIGN, {}], ids=["foreign", "own"])
def test_never_with_another_key(gateway: Gateway, headers: dict[str, str]) -> None:
    assert status(gateway, "/metrics", gateway.key, headers) == 401


def test_without_a_key_from_this_machine_under_its_own_names_only(gateway: Gateway) -> None:
    assert status(gateway, "/metrics", None, {}) == 200
    assert status(gateway, "/metrics", None, FOREIGN) == 421
    assert status(gateway, "/admin/api/keys", gateway.admin_key, FOREIGN) == 421
