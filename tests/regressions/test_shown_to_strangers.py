"""What `config show` and `/readyz` show (issue 12, E10): no part of a password, and no details to strangers."""

import json
from collections.abc import AsyncIterator

import pytest

from app.settings.secret import SecretUrl
from app.web.routes.probes import HealthPart
from tests.gateway.house import House
from tests.web.front import Answer, Front, make_app, running

SECRET_PARTS = ("pa", "zz", "word")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://weighbridge:pa#zz@db.example.com/w",
        "postgresql://weighbridge:pa?zz@db.example.com/w",
        "postgresql://weighbridge:pa/zz@db.example.com/w",
        "postgresql://weighbridge:12#zz@db.example.com/w",
        "postgresql://weighbridge:12/zz@word@db.example.com/w",
        "postgresql://weighbridge:pa%23zz%40word@db.example.com/w",
        "postgresql://weighbridge:@pa@zz@db.example.com/w",
        "postgresql://db.example.com/w?pazzword=pa@zz&user=weighbridge",
        "postgresql://db.example.com/w#pazz",
        "postgresql://weighbridge:pazz",
        "redis://:pa#zz@cache:6379/0",
        "redis://pa/zz@cache:6379/0",
        "redis://:pa%zz@cache:6379/0",
        "rediss://:12/zz:pa@cache:6379/0",
        "unix:///run/redis.sock?pazzword=pazz",
    ],
)
def test_no_part_of_a_password_is_shown(url: str) -> None:
    shown = str(SecretUrl(url))
    assert "***" in shown
    assert not any(part in shown for part in SECRET_PARTS), shown


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    house = House(max_streams=20, at_once=True)
    async with running(house, make_app(house)) as front:
        yield front


async def as_host(front: Front, host: str, *headers: str) -> Answer:
    client = await front.connect()
    client.send("\r\n".join(["GET /readyz HTTP/1.1", f"host: {host}", *headers, "", ""]).encode())
    answer = await client.answer("GET")
    await client.close()
    return answer


async def test_readyz_tells_strangers_names_and_states_only(front: Front) -> None:
    parts = {"storage": HealthPart("the disk /var/lib/weighbridge is full", more={"kept": True})}
    front.app.state.readiness = lambda: parts
    stranger = await as_host(front, "gateway.example.com")
    assert json.loads(stranger.body) == {"status": "degraded", "parts": {"storage": {"ok": False, "state": "degraded"}}}
    forwarded = await front.ask("GET", "/readyz", "x-forwarded-for: 203.0.113.7")
    assert json.loads(forwarded.body) == json.loads(stranger.body)
    known = await front.ask("GET", "/readyz")
    assert json.loads(known.body)["parts"]["storage"]["problem"] == "the disk /var/lib/weighbridge is full"
    assert json.loads(known.body)["parts"]["storage"]["kept"] is True
    keyed = await as_host(front, "gateway.example.com", f"authorization: Bearer {front.app.state.admin_key}")
    assert json.loads(keyed.body) == json.loads(known.body)


async def test_a_wrong_key_makes_no_probe_fail(front: Front) -> None:
    """A probe is answered by what the server is able to do, not by who asks."""
    answer = await front.ask("GET", "/readyz", key="wrong")
    assert (answer.status, json.loads(answer.body)["parts"]) == (200, {"storage": {"ok": True, "state": "ok"}})
