"""The program on PostgreSQL: replicas, workers, a database that goes away, and the way there from SQLite."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, ASK_STREAM, Answer
from tests.e2e.program import Gateway, Mock, eventually
from tests.store.postgres_server import PostgresServer
from tests.store.relay import Relay

Replica = Callable[..., Gateway]


@pytest.fixture
def replica(
    mock_process: Mock, canary_key: str, tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> Iterator[Replica]:
    """Starts a gateway on the test's database; its password must be seen as little as any key."""
    with ExitStack() as stack:

        def start(name: str, *arguments: str, url: str = postgres_url) -> Gateway:
            folder = tmp_path / name
            folder.mkdir()
            env = {"WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1", "WEIGHBRIDGE_DATABASE_URL": url}
            gateway = stack.enter_context(Gateway(folder, canary_key, *arguments, **env))
            gateway.secrets["database password"] = postgres.password
            return gateway

        yield start


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def outcomes(url: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT request_id, outcome FROM records").fetchall())


def test_two_replicas_share_clients_and_ledger(replica: Replica, postgres_url: str) -> None:
    one, two = replica("one"), replica("two")
    assert one.first_key is not None
    assert two.first_key is None  # there was a client already
    made = one.admin("POST", "/keys", {"client": "team"}).json
    one.key = two.key = made["key"]
    one.secrets["team"] = two.secrets["team"] = made["key"]
    eventually(lambda: two.post().status == 200, "the new key to be known to the other")
    assert one.post(ASK_STREAM).whole
    assert {record["request_id"] for record in one.records()} == {record["request_id"] for record in two.records()}
    assert two.admin("POST", f"/keys/{made['key_id']}/revoke").status == 200
    eventually(lambda: one.post().status == 401, "the revocation to be heard by the other")
    assert set(outcomes(postgres_url).values()) <= {"completed", "rejected"}


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=[pytest.mark.long, pytest.mark.timeout(180)])])
def test_postgres_away_no_stream_is_hurt_and_no_record_is_lost(
    replica: Replica, postgres: PostgresServer, postgres_url: str, seconds: float
) -> None:
    answers: list[Answer] = []
    over = threading.Event()
    with Relay(postgres.port) as relay:
        gateway = replica("one", url=postgres_url.replace(f":{postgres.port}/", f":{relay.port}/"))

        def call() -> None:
            while not over.is_set():
                answers.append(gateway.post(ASK_STREAM))

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        eventually(lambda: len(answers) > 8, "calls")
        relay.cut()
        eventually(
            lambda: "PostgreSQL" in str(gateway.get("/readyz").json["parts"]["storage"]["problem"]), "the trouble"
        )
        before = len(answers)
        over.wait(seconds)
        assert len(answers) > before
        relay.mend()
        eventually(lambda: gateway.get("/readyz").json["parts"]["storage"]["ok"], "the recovery")
        over.set()
        for caller in callers:
            caller.join()
        assert {(answer.status, answer.whole, b"response.completed" in answer.body) for answer in answers} == {
            (200, True, True)
        }
        assert outcomes(postgres_url) == {answer.request_id: "completed" for answer in answers}


def test_workers_share_the_port_are_replaced_and_stop_together(replica: Replica, postgres_url: str) -> None:
    gateway = replica("one", "--workers", "2")
    assert gateway.first_key is not None
    assert gateway.process.out.count("is ready at") == 1
    parent = gateway.process.popen.pid
    first = children_of(parent)
    assert len(first) == 2
    assert all(gateway.post(ASK_STREAM).whole for _ in range(10))
    key = gateway.json_of("keys", "create", "another")["key"]
    gateway.secrets["another"] = key
    for _ in range(10):
        eventually(lambda: gateway.get("/api/v1/key", key).status == 200, "the key to be known to both")
    os.kill(first[0], signal.SIGKILL)
    eventually(lambda: len(now := children_of(parent)) == 2 and first[0] not in now, "another worker")
    eventually(lambda: "is restarted" in gateway.process.err, "a word about it")
    answers = [gateway.post() for _ in range(10)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.request_id for answer in answers} <= outcomes(postgres_url).keys()
    workers = children_of(parent)
    assert gateway.process.end() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_any_worker_tells_the_numbers_of_all_and_no_counter_falls(replica: Replica) -> None:
    gateway = replica("one", "--workers", "2")
    gateway.json_of("keys", "create", "another")
    parent = gateway.process.popen.pid
    told: list[float] = []

    def completed() -> float:
        told.append(gateway.metric("weighbridge_requests_total", outcome="completed"))
        return told[-1]

    def asked() -> None:
        assert {gateway.post().status for _ in range(12)} == {200}

    asked()
    for _ in range(6):  # whoever is asked
        eventually(lambda: completed() == 12, "the numbers of both")
    first = children_of(parent)
    os.kill(first[0], signal.SIGKILL)
    eventually(lambda: len(now := children_of(parent)) == 2 and first[0] not in now, "another worker")
    asked()
    for _ in range(6):
        eventually(lambda: completed() == 24, "what was counted before, too")
    assert told == sorted(told)
    assert gateway.metric("weighbridge_streams_in_flight") == 0
    gateway.restart(signal.SIGTERM)
    assert gateway.metric("weighbridge_requests_total", outcome="completed") == 0


def test_a_stop_reaches_a_worker_that_is_just_starting(replica: Replica) -> None:
    gateway = replica("one", "--workers", "2")
    parent = gateway.process.popen.pid
    first = children_of(parent)
    os.kill(first[0], signal.SIGKILL)
    eventually(lambda: len(now := children_of(parent)) == 2 and first[0] not in now, "another worker")
    assert gateway.process.end() == 0


@pytest.mark.long
@pytest.mark.timeout(180)
def test_open_calls_of_a_replica_that_was_killed_are_closed_by_another(replica: Replica, postgres_url: str) -> None:
    one, two = replica("one"), replica("two")
    made = one.admin("POST", "/keys", {"client": "team"}).json
    one.key = two.key = made["key"]
    eventually(lambda: two.post().status == 200, "the new key to be known to the other")
    hold = {"x-mock-fault": "stall@5=120s"}
    with one.calling(ASK_STREAM, hold), two.calling(ASK_STREAM, hold):
        eventually(lambda: list(outcomes(postgres_url).values()).count("in_progress") == 2, "both calls")
        one.process.end(signal.SIGKILL)
        deadline = time.monotonic() + 90
        while "interrupted" not in outcomes(postgres_url).values():
            assert time.monotonic() < deadline
            time.sleep(1)
        assert list(outcomes(postgres_url).values()).count("in_progress") == 1  # that of the living


def test_workers_end_when_their_parent_is_killed(replica: Replica) -> None:
    gateway = replica("one", "--workers", "2")
    workers = children_of(gateway.process.popen.pid)
    gateway.process.end(signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "their end")
    gateway.restart()
    assert gateway.post().status == 200


def test_workers_with_open_streams_end_within_a_second_and_a_start_waits_for_them(
    replica: Replica, postgres_url: str
) -> None:
    """They drained for 30 s and held the state directory for as long: 15 starts in a row failed."""
    gateway = replica("one", "--workers", "2")
    for at_once in (False, True):
        workers = children_of(gateway.process.popen.pid)
        with gateway.calling(ASK_STREAM, {"x-mock-fault": "stall@2"}) as call:
            call.read_until(b"data: ")
            gateway.process.end(signal.SIGKILL)
            killed_at = time.monotonic()
            if not at_once:
                eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "their end")  # noqa: B023
                assert time.monotonic() - killed_at < 2.0  # a second, and what a busy machine adds
            gateway.process = gateway._start()
            eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "their end")  # noqa: B023
    assert gateway.post().status == 200
    eventually(lambda: list(outcomes(postgres_url).values()).count("interrupted") == 2, "both calls")


def test_workers_need_postgres(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    done = gateway.command("serve", "--demo", "--workers", "2", exit_code=2)
    assert "SQLite is for one process" in done.stderr


def test_an_sqlite_installation_moves_to_postgres(
    replica: Replica, start_gateway: GatewayStarter, postgres: PostgresServer, postgres_url: str
) -> None:
    old = start_gateway(WEIGHBRIDGE_UPSTREAM_URL="http://127.0.0.1:9/api/v1")
    old.post(ASK)
    records = old.records()
    assert "is in use" in old.command("db", "migrate-to", postgres_url, exit_code=1).stderr
    assert old.process.end() == 0
    assert json.loads(old.command("db", "migrate-to", postgres_url, "--json").stdout)["records"] == len(records)
    assert "is not empty" in old.command("db", "migrate-to", postgres_url, exit_code=1).stderr
    old.env["WEIGHBRIDGE_DATABASE_URL"] = postgres_url
    assert old.command("db", "check").stdout == "ok\n"
    assert old.json_of("db", "current")["revision"] == old.json_of("db", "upgrade")["revision"]
    assert "pg_dump" in old.command("db", "backup", "copy.db", exit_code=2).stderr
    assert [
        json.loads(line) for line in old.command("usage", "--by", "request", "--json").stdout.splitlines()
    ] == records
    new = replica("new")
    assert new.first_key is None
    new.key = old.key
    assert new.post().status == 200
