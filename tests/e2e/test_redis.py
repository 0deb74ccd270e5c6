"""The program on Redis: replicas that share limits, and a Redis that goes away and comes back."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Answer, dial, raw_request
from tests.e2e.program import Gateway, Mock, eventually
from tests.e2e.test_limits import PER_CALL, Checker, admin, ask, calls_at_once, own, post
from tests.store.postgres_server import PostgresServer
from tests.store.relay import Relay
from tests.store.valkey_server import ValkeyServer

Replica = Callable[..., Gateway]


@pytest.fixture
def relay(valkey: ValkeyServer) -> Iterator[Relay]:
    """The way to Redis."""
    with Relay(valkey.port) as relay:
        yield relay


@pytest.fixture
def replica(
    mock_process: Mock,
    canary_key: str,
    tmp_path: Path,
    postgres: PostgresServer,
    postgres_url: str,
    valkey: ValkeyServer,
    redis_database: int,
    relay: Relay,
) -> Iterator[Replica]:
    """Starts a gateway on the test's database; no password of either server may be seen."""
    with ExitStack() as stack:

        def start(name: str, *arguments: str, **more: str) -> Gateway:
            folder = tmp_path / name
            folder.mkdir()
            env = {
                "WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1",
                "WEIGHBRIDGE_DATABASE_URL": postgres_url,
                "WEIGHBRIDGE_REDIS_URL": valkey.url(redis_database, relay.port),
                **more,
            }
            gateway = stack.enter_context(Gateway(folder, canary_key, *arguments, **env))
            gateway.secrets["database password"] = postgres.password
            gateway.secrets["Redis password"] = valkey.password
            return gateway

        yield start


def agree(gateway: Gateway, client: str, **change: Any) -> None:  # noqa: ANN401 - the API's own fields
    """The worker that is asked may not have heard of a new client yet."""
    eventually(lambda: admin(gateway, "PATCH", f"/clients/{client}", change).status == 200, "the change")


def problem(gateway: Gateway) -> str | None:
    found: str | None = gateway.get("/readyz").json["parts"]["limits"]["problem"]
    return found


def test_five_hundred_calls_at_once_over_two_replicas_of_two_workers_on_a_budget_for_five(replica: Replica) -> None:
    worst = PER_CALL + -(-len(json.dumps(ask())) // 3)
    one = replica("one", "--workers", "2")
    key = one.new_key("alice")
    agree(one, "alice", budget_tokens={"day": 5 * worst}, concurrency=1000)
    two = replica("two", "--workers", "2")  # until it is up all others have heard of the client
    two.secrets["key of alice"] = key
    answers: list[Answer] = []

    def crowd(gateway: Gateway) -> None:
        answers.extend(calls_at_once(gateway, key, 250, ask(), **{"x-mock-fault": "slow-first-byte=4s"}))

    threads = [threading.Thread(target=crowd, args=(gateway,)) for gateway in (one, two)]
    with Checker(one, "alice") as checker:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Counter(answer.status for answer in answers) == {200: 5, 429: 495}
    assert checker.looks > 0
    assert checker.most <= 5 * worst
    used = sum(record["total_tokens"] or 0 for record in two.records() if record["client"] == "alice")
    now = own(two, key)
    assert (now["calls"], now["budgets"][0]["reserved"], now["budgets"][0]["spent"]) == (0, 0, used)


def test_redis_away_budgets_are_shut_others_pass_and_all_recovers(replica: Replica, relay: Relay) -> None:
    gateway = replica("one")
    rated, budgeted = gateway.new_key("rated"), gateway.new_key("budgeted")
    agree(gateway, "rated", rpm=100)
    agree(gateway, "budgeted", budget_tokens={"day": 100_000})
    assert problem(gateway) is None
    for key in (gateway.key, rated, budgeted):
        assert post(gateway, key, ask()).status == 200
    relay.cut()
    eventually(lambda: problem(gateway), "the trouble")
    assert gateway.get("/readyz").json["status"] == "degraded"
    assert post(gateway, gateway.key, ask()).status == 200
    assert post(gateway, rated, ask()).status == 200
    refused = post(gateway, budgeted, ask())
    assert (refused.status, refused.error_type) == (503, "storage_unavailable")
    assert refused.value("retry-after")
    assert gateway.get("/api/v1/key", rated).status == 503
    assert gateway.metric("weighbridge_limiter_unjudged_total", result="admitted") == 1
    assert gateway.metric("weighbridge_limiter_unjudged_total", result="refused") == 1
    assert gateway.metric("weighbridge_limiter_errors_total", kind="closed") >= 1
    relay.mend()
    eventually(lambda: problem(gateway) is None, "the recovery")
    assert post(gateway, budgeted, ask()).status == 200
    assert own(gateway, budgeted)["budgets"][0]["reserved"] == 0


def test_redis_is_not_there_when_the_server_starts(replica: Replica, relay: Relay) -> None:
    relay.cut()
    gateway = replica("one")
    key = gateway.new_key("alice")
    agree(gateway, "alice", budget_tokens={"day": 100_000})
    assert post(gateway, gateway.key, ask()).status == 200
    assert post(gateway, key, ask()).status == 503
    relay.mend()
    eventually(lambda: post(gateway, key, ask()).status == 200, "budgets")


def test_who_leaves_while_redis_is_asked_gives_everything_back(replica: Replica, valkey: ValkeyServer) -> None:
    gateway = replica("one")
    key = gateway.new_key("alice")
    agree(gateway, "alice", budget_tokens={"day": 100_000}, concurrency=2)
    valkey.stop()
    try:
        with dial(gateway.url) as socket:
            socket.sendall(raw_request(key, ask()))
            eventually(lambda: gateway.metric("weighbridge_streams_in_flight") == 1, "the call")
        gateway.idle()
    finally:
        valkey.go_on()
    eventually(lambda: problem(gateway) is None, "Redis")

    def given_back() -> bool:
        now = own(gateway, key)
        return bool((now["calls"], now["budgets"][0]["reserved"], now["budgets"][0]["spent"]) == (0, 0, 0))

    eventually(given_back, "what was taken")
    (record,) = (record for record in gateway.records() if record["client"] == "alice")
    assert record["outcome"] == "client_closed"


def test_a_budget_that_was_taken_away_and_comes_back_knows_what_was_spent_meanwhile(replica: Replica) -> None:
    gateway = replica("one")
    key = gateway.new_key("alice")
    agree(gateway, "alice", budget_tokens={"total": 100_000})
    used = [post(gateway, key, ask()).json["usage"]["total_tokens"]]
    agree(gateway, "alice", budget_tokens=None)
    used += [post(gateway, key, ask()).json["usage"]["total_tokens"] for _ in range(3)]
    gateway.idle()
    agree(gateway, "alice", budget_tokens={"total": 100_000})
    (budget,) = own(gateway, key)["budgets"]
    assert budget["spent"] == sum(used)
