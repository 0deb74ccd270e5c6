"""A change made by a command counts on every replica within 1 s of the command's end (contract.md)."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.program import Gateway, Mock
from tests.e2e.test_limits import admin, agree, ask, post
from tests.store.valkey_server import ValkeyServer

PROMISED_SECONDS = 1.0
POLL_SECONDS = 0.02

Effect = Callable[[Gateway, str], bool]
StartTeam = Callable[..., "Team"]


@dataclass
class Team:
    """Replicas, of which the first is told the commands. `seconds` has the slowest of each change."""

    replicas: list[Gateway]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def told(self) -> Gateway:
        return self.replicas[0]

    def command(self, *words: str) -> str:
        return self.told.command(*words).stdout

    def new_key(self, client: str) -> str:
        key = self.command("keys", "create", client).strip()
        for replica in self.replicas:
            replica.secrets[f"key {key[6:16]}"] = key
        return key

    def until_all(self, change: str, effect: Effect, key: str) -> None:
        """Every replica shows the effect when it is asked late enough, each by a thread of its own."""
        since = time.monotonic()
        with ThreadPoolExecutor(len(self.replicas)) as pool:
            took = max(pool.map(lambda replica: self._until(since, replica, effect, key), self.replicas))
        self.seconds[change] = round(took, 3)
        assert took < PROMISED_SECONDS, self.seconds

    @staticmethod
    def _until(since: float, replica: Gateway, effect: Effect, key: str) -> float:
        """The seconds after which it was last asked in vain: how long an answer takes is not the question."""
        pause = threading.Event()
        in_vain = 0.0
        while in_vain < PROMISED_SECONDS:
            asked_after = time.monotonic() - since
            if effect(replica, key):
                break
            in_vain = asked_after
            pause.wait(POLL_SECONDS)
        return in_vain


@pytest.fixture
def start_team(mock_process: Mock, canary_key: str, tmp_path: Path) -> Iterator[StartTeam]:
    """Starts as many as are named, with this environment."""
    with ExitStack() as stack:

        def start(*names: str, **env: str) -> Team:
            replicas = []
            for name in names:
                (tmp_path / name).mkdir()
                url = f"{mock_process.url}/api/v1"
                gateway = Gateway(tmp_path / name, canary_key, WEIGHBRIDGE_UPSTREAM_URL=url, **env)
                replicas.append(stack.enter_context(gateway))
            return Team(replicas)

        yield start


@pytest.fixture
def postgres_team(start_team: StartTeam, postgres_url: str) -> Team:
    return start_team("one", "two", WEIGHBRIDGE_DATABASE_URL=postgres_url)


@pytest.fixture(params=["sqlite", "postgres and redis"])
def team(
    request: pytest.FixtureRequest,
    start_team: StartTeam,
    postgres_url: str,
    valkey: ValkeyServer,
    redis_database: int,
) -> Team:
    if request.param == "sqlite":
        return start_team("one")
    redis_url = valkey.url(redis_database)
    return start_team("one", "two", WEIGHBRIDGE_DATABASE_URL=postgres_url, WEIGHBRIDGE_REDIS_URL=redis_url)


def answers(status: int) -> Effect:
    """A good key that asks more than 60 times a minute gets 429: it is good all the same."""
    expected = (200, 429) if status == 200 else (status,)
    return lambda gateway, key: gateway.get("/api/v1/key", key).status in expected


def refuses(error_type: str) -> Effect:
    def effect(gateway: Gateway, key: str) -> bool:
        answer = post(gateway, key, ask())
        return answer.status >= 400 and answer.error_type == error_type

    return effect


def lets_in(gateway: Gateway, key: str) -> bool:
    return post(gateway, key, ask()).status == 200


def tells_rate(requests: str | None) -> Effect:
    return lambda gateway, key: post(gateway, key, ask()).value("x-ratelimit-limit-requests") == requests


def test_changes_reach_every_replica_within_a_second(team: Team) -> None:
    first = team.new_key("alice")
    team.until_all("a new client", answers(200), first)
    second = team.new_key("alice")
    team.until_all("a new key", answers(200), second)
    team.command("keys", "revoke", second[6:16])
    team.until_all("a key revoked", answers(401), second)
    assert team.told.admin("POST", f"/keys/{first[6:16]}/rotate", b'{"grace_seconds": 0}').status == 201
    team.until_all("a key rotated", answers(401), first)
    key = team.new_key("alice")
    team.until_all("one more key", answers(200), key)
    team.command("clients", "set", "alice", "--disable")
    team.until_all("disabled", answers(401), key)
    steps: list[tuple[str, dict[str, Any], Effect]] = [
        ("enabled", {"enabled": True}, answers(200)),
        ("a rate", {"rpm": 1000}, tells_rate("1000")),
        ("another rate", {"rpm": 2000}, tells_rate("2000")),
        ("no rate", {"rpm": None}, tells_rate(None)),
        ("models", {"models": ["nothing/*"]}, refuses("model_not_allowed")),
        ("any model", {"models": None}, lets_in),
        ("a spent budget", {"budget_tokens": {"day": 1}}, refuses("insufficient_quota")),
        ("a larger budget", {"budget_tokens": {"day": 1_000_000}}, lets_in),
    ]
    for change, terms, effect in steps:
        agree(team.told, "alice", **terms)
        team.until_all(change, effect, key)
    assert admin(team.told, "PATCH", "/groups/pair", {"models": ["nothing/*"]}).status == 200
    agree(team.told, "alice", group="pair")
    team.until_all("a group", refuses("model_not_allowed"), key)
    assert admin(team.told, "PATCH", "/groups/pair", {"models": None}).status == 200
    team.until_all("a change of the group", lets_in, key)


def test_a_change_that_nobody_was_told_of_is_seen_all_the_same(postgres_team: Team, postgres_url: str) -> None:
    """A notification may get lost, in a pooler for one: each replica looks for itself."""
    key = postgres_team.new_key("alice")
    postgres_team.until_all("a new client", answers(200), key)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for number in range(3):
            connection.execute("UPDATE keys SET revoked_at = 1 WHERE key_id = %s", (key[6:16],))
            postgres_team.until_all(f"revoked {number}", answers(401), key)
            connection.execute("UPDATE keys SET revoked_at = NULL WHERE key_id = %s", (key[6:16],))
            postgres_team.until_all(f"good again {number}", answers(200), key)
