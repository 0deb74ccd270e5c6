"""Slots, rates and what was set aside come back from calls that end in every way there is, also when a replica dies."""

import asyncio
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crowd import Ask, Crowd, Told
from tests.e2e.program import Gateway, Mock, eventually
from tests.e2e.soak import FAULTS, MODELS
from tests.e2e.test_limits import agree, own
from tests.store.postgres_server import PostgresServer
from tests.store.valkey_server import ValkeyServer

SLOTS_EACH = 9
CLIENTS_EACH = 10
"""At each replica: together a few more than there are slots, so that some calls end by being refused."""
BUDGET_TOKENS = 1_000_000_000
FAR_BELOW = 0.5
"""A worst case and all estimates of a thousand short calls are far below such a part of the budget."""
SMALL_BUDGET_TOKENS = 15_000
OTHERS_CLOSE_SECONDS = 30
"""So long after a death the other replica closes what was open."""
STREAM: dict[str, Any] = {"model": MODELS[0], "input": "Say it.", "stream": True, "max_output_tokens": 60}
SILENCES = ("stall@3", "slow-first-byte=90s", "stall@0")

Replicas = Callable[[int], list[Gateway]]


@pytest.fixture
def redis() -> Iterator[ValkeyServer]:
    """A server that a test may kill."""
    with ValkeyServer() as server:
        server.settle_in()
        yield server


@pytest.fixture
def replicas(
    mock_process: Mock,
    canary_key: str,
    tmp_path: Path,
    postgres: PostgresServer,
    postgres_url: str,
    redis: ValkeyServer,
) -> Iterator[Replicas]:
    """One keeps its limits in memory; several share a PostgreSQL and a Redis."""
    with ExitStack() as stack:

        def start(count: int) -> list[Gateway]:
            env = {"WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1", "WEIGHBRIDGE_FIRST_BYTE_TIMEOUT": "1"}
            env |= {"WEIGHBRIDGE_IDLE_TIMEOUT": "1", "WEIGHBRIDGE_LOG_LEVEL": "error"}
            if count > 1:
                env["WEIGHBRIDGE_DATABASE_URL"] = postgres_url
                env["WEIGHBRIDGE_REDIS_URL"] = redis.url()
            started = []
            for number in range(count):
                (tmp_path / f"{number}").mkdir()
                started.append(stack.enter_context(Gateway(tmp_path / f"{number}", canary_key, **env)))
                started[-1].secrets |= {"database": postgres.password, "Redis": redis.password}
            return started

        yield start


class Ends:
    """Asks whose calls end in every way: whole, faulty, silent, left, refused. Hands out so many."""

    def __init__(self, count: int, seed: int) -> None:
        self.left = count
        self._chance = random.Random(seed)

    def ask(self) -> Ask:
        self.left -= 1
        chance = self._chance
        body: dict[str, Any] = {"model": chance.choice(MODELS), "input": "Say it.", "max_output_tokens": 60}
        body["stream"] = chance.random() < 0.7
        kind = chance.random()
        if kind < 0.45:
            return Ask(body, {"x-mock-fault": chance.choice(FAULTS)})
        if kind < 0.5:
            return Ask(body, {"x-mock-fault": chance.choice(SILENCES)})
        if kind < 0.55:
            return Ask({**body, "model": chance.choice([7, None, "nothing/else"])})
        return Ask(body, leave_after=chance.randint(1, 3000) if kind < 0.75 else None)


async def call(gateways: list[Gateway], key: str, count: int) -> list[Told]:
    """So many calls in all, of a crowd at each."""
    ends = Ends(count, 5)
    crowds: list[Crowd] = []

    def next_ask() -> Ask:
        if ends.left <= len(gateways) * CLIENTS_EACH:
            for crowd in crowds:
                crowd.stop()
        return ends.ask()

    crowds += [Crowd(gateway.url, key, CLIENTS_EACH, next_ask) for gateway in gateways]
    await asyncio.gather(*(crowd.run() for crowd in crowds))
    return [told for crowd in crowds for told in crowd.told]


def team_key(gateways: list[Gateway], slots: int, budget: int) -> str:
    key = gateways[0].new_key("team")
    for gateway in gateways:
        gateway.secrets["key of team"] = key
    agree(gateways[0], "team", concurrency=slots, rpm=1_000_000, budget_tokens={"day": budget})
    for gateway in gateways:
        eventually(lambda gateway=gateway: "budgets" in held(gateway, key), "the client to be known")  # type: ignore[misc]
    return key


def held(gateway: Gateway, key: str) -> dict[str, Any]:
    answer = gateway.get("/api/v1/key", key)
    return {} if answer.status != 200 else answer.json["data"]["limits"].get("client") or {}


def nothing_held(gateway: Gateway, key: str) -> bool:
    now = held(gateway, key)
    return bool(now) and (now["calls"], now["budgets"][0]["reserved"]) == (0, 0)


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
@pytest.mark.parametrize("replicas_", [1, 2])
def test_calls_that_end_in_every_way_hold_nothing_afterwards(replicas: Replicas, replicas_: int, count: int) -> None:
    gateways = replicas(replicas_)
    key = team_key(gateways, SLOTS_EACH * replicas_, BUDGET_TOKENS)
    told = asyncio.run(call(gateways, key, count))
    assert len(told) >= count - 2 * CLIENTS_EACH
    for gateway in gateways:
        gateway.idle()
    eventually(lambda: nothing_held(gateways[0], key), "slots and reservations")

    def settled() -> list[dict[str, Any]]:
        """Those who left did not wait for the commit."""
        found = [record for record in gateways[0].records() if record["client"] == "team"]
        return [] if any(record["outcome"] == "in_progress" for record in found) else found

    records = eventually(settled, "the last commits")
    ways = Counter(record["outcome"] for record in records)
    wanted = {
        "completed",
        "incomplete",
        "failed",
        "client_closed",
        "truncated",
        "upstream_error",
        "timeout",
        "rejected",
    }
    assert ways.keys() == wanted, ways
    assert {"rate_limited", "invalid_request"} <= {record["error_type"] for record in records}
    assert len(records) >= sum(one.whole for one in told)
    assert 0 < own(gateways[0], key)["budgets"][0]["spent"] < FAR_BELOW * BUDGET_TOKENS


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("dies", ["replica", "redis"])
def test_what_is_killed_under_load_leaves_no_slot_behind_and_overruns_no_budget(
    replicas: Replicas, redis: ValkeyServer, dies: str
) -> None:
    """A replica's slots are free when its lease ends; the other closes its calls, which count by their worst case.

    Load goes on until the budget is spent, by whose last call it may be overrun. Every answer that a client saw whole
    has its record.
    """
    one, two = replicas(2)
    key = team_key([one, two], 2 * CLIENTS_EACH, SMALL_BUDGET_TOKENS)
    over, seen = threading.Event(), list[int]()

    def watch() -> None:
        while not over.is_set():
            for budget in held(two, key).get("budgets", ()):  # none while Redis is away
                seen.append(budget["spent"] + budget["reserved"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    told = asyncio.run(load_and_kill(one, two, key, None if dies == "replica" else redis))
    deadline = time.monotonic() + 3 * OTHERS_CLOSE_SECONDS
    while not nothing_held(two, key) or any(record["outcome"] == "in_progress" for record in two.records()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    over.set()
    watcher.join()
    bound = SMALL_BUDGET_TOKENS + STREAM["max_output_tokens"] + len(json.dumps(STREAM)) // 3 + 1  # of the last call
    assert max(seen) <= bound
    records = {record["request_id"]: record for record in two.records() if record["client"] == "team"}
    for one_told in told:
        if one_told.terminal is not None:
            assert records[one_told.headers["x-request-id"]]["outcome"] in ("completed", "incomplete")
    counted = sum((record["input_tokens"] or 0) + (record["output_tokens"] or 0) for record in records.values())
    assert SMALL_BUDGET_TOKENS // 2 < counted <= bound
    assert own(two, key)["budgets"][0]["spent"] <= bound
    ways = Counter(record["outcome"] for record in records.values())
    assert (ways["interrupted"] > 0) is (dies == "replica")


async def load_and_kill(one: Gateway, two: Gateway, key: str, redis: ValkeyServer | None) -> list[Told]:
    """A crowd at each until the budget is spent; in the midst of it `one` is killed, or Redis, which comes back."""
    slow = {"x-mock-fault": "stall@4=300ms"}
    crowds = [Crowd(gateway.url, key, CLIENTS_EACH, lambda: Ask(STREAM, slow)) for gateway in (one, two)]

    def spent() -> bool:
        return any(b"insufficient_quota" in told.body for told in list(crowds[1].told))

    def kill() -> None:
        eventually(lambda: min(crowd.pieces for crowd in crowds) > 200, "load")
        assert not spent()
        if redis is None:
            one.process.end(signal.SIGKILL)
        else:
            redis.kill()
            redis.start()
        eventually(spent, "the end of the budget")
        for crowd in crowds:
            crowd.stop()

    await asyncio.gather(*(crowd.run() for crowd in crowds), asyncio.to_thread(kill))
    return [told for crowd in crowds for told in crowd.told]
