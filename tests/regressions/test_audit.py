"""Who changed what is written down: in a table, as a log line, and shown by a command (issue 12, F10)."""

import getpass
import json
from typing import Any

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import opened
from tests.e2e.program import Gateway
from tests.e2e.test_limits import admin

USER = f"cli:{getpass.getuser()}"


def entries(gateway: Gateway, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.json_of("audit", *arguments)
    return found


def said(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["actor"], entry["action"], entry["subject"]


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, start_gateway: GatewayStarter) -> Gateway:
    if request.param == "sqlite":
        return start_gateway()
    gateway: Gateway = start_gateway(WEIGHBRIDGE_DATABASE_URL=request.getfixturevalue("postgres_url"))
    return gateway


def test_every_change_is_written_down(house: Gateway) -> None:
    made = house.json_of("keys", "create", "alice", "--label", "laptop", "--rpm", "5")
    house.secrets["alice"] = made["key"]
    house.command("clients", "set", "alice", "--rpm", "none", "--budget-usd", "5/day")
    house.command("groups", "set", "team", "--tpm", "1000")
    rotated = house.json_of("keys", "rotate", made["key_id"])
    house.secrets["alice again"] = rotated["key"]
    house.command("keys", "revoke", made["key_id"])
    assert admin(house, "PATCH", "/clients/alice", {"concurrency": 2}).status == 200
    house.command("clients", "delete", "alice")
    house.command("clients", "restore", "alice")
    house.command("clients", "set", "nobody", "--rpm", "1", exit_code=1)
    found = entries(house)
    first, *rest = found
    assert said(first)[:2] == ("server", "key.create")
    assert list(map(said, rest)) == [
        (USER, "key.create", made["key_id"]),
        (USER, "client.set", "alice"),
        (USER, "client.set", "alice"),
        (USER, "group.set", "team"),
        (USER, "key.rotate", made["key_id"]),
        (USER, "key.revoke", made["key_id"]),
        ("admin", "client.set", "alice"),
        (USER, "client.delete", "alice"),
        (USER, "client.restore", "alice"),
    ]
    details = [entry["detail"] for entry in rest]
    assert details[0] == {"client": "alice", "label": "laptop"}
    assert details[1] == {"rpm": {"from": None, "to": 5}}
    assert details[2]["rpm"] == {"from": 5, "to": None}
    assert details[6] == {"concurrency": {"from": None, "to": 2}}
    assert details[7] == {"revoked_keys": [rotated["key_id"]]}
    assert entries(house, "--since", rest[-1]["at"]) == rest[-1:]
    assert entries(house, "--limit", "2") == rest[-2:]
    table = house.command("audit").stdout.splitlines()
    assert len(table) == len(found) + 1
    assert house.has_logged(f"audit: {USER} client.restore alice")
    assert made["key"] not in json.dumps(found) + house.process.err


def test_it_outlives_the_server(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    gateway.command("clients", "set", "default", "--rpm", "5")
    before = entries(gateway)
    assert gateway.process.end() == 0
    assert entries(gateway) == before
    gateway.command("clients", "set", "default", "--rpm", "6")
    assert said(entries(gateway)[-1]) == (USER, "client.set", "default")
    gateway.restart()


def test_a_wrong_time_is_wrong_use(start_gateway: GatewayStarter) -> None:
    assert "--since" in start_gateway().command("audit", "--since", "yesterday", exit_code=2).stderr


def test_nobody_far_away_speaks_for_a_user(start_gateway: GatewayStarter) -> None:
    """Behind a proxy on this machine everybody comes from a loopback address."""
    gateway = start_gateway()
    headers = {"x-weighbridge-actor": "cli:somebody", "x-forwarded-for": "203.0.113.7"}
    with opened(f"{gateway.url}/admin/api/keys", gateway.admin_key, {"client": "bob"}, headers) as call:
        made = call.rest()
    assert made.status == 201
    gateway.secrets["bob"] = made.json["key"]
    assert entries(gateway)[-1]["actor"] == "admin@127.0.0.1"
