"""Issue 12, C3: with Redis, a change of terms refuses nobody: calls wait for the account of the budget."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.program import Gateway, Mock
from tests.e2e.test_limits import admin, ask, post
from tests.store.postgres_server import PostgresServer
from tests.store.valkey_server import ValkeyServer

CHANGES: list[dict[str, Any]] = [
    {"budget_tokens": {"day": 10**9}},
    {"budget_usd": {"month": "1000"}},
    {"rpm": 100_000},
    {"budget_tokens": None},
    {"budget_tokens": {"day": 10**9, "total": 10**9}},
    {"budget_usd": None, "budget_tokens": None},
    {"budget_usd": {"week": "1000"}},
]


def replica(name: str, folder: Path, canary_key: str, **env: str) -> Gateway:
    (folder / name).mkdir()
    return Gateway(folder / name, canary_key, **env)


@pytest.mark.parametrize("replicas", [1, 2])
def test_nobody_is_refused_while_terms_change(
    mock_process: Mock,
    canary_key: str,
    tmp_path: Path,
    postgres: PostgresServer,
    postgres_url: str,
    valkey: ValkeyServer,
    redis_database: int,
    replicas: int,
) -> None:
    """Right after the start as well, when Redis is empty and waits for what other processes hold."""
    env = {
        "WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1",
        "WEIGHBRIDGE_DATABASE_URL": postgres_url,
        "WEIGHBRIDGE_REDIS_URL": valkey.url(redis_database),
    }
    with replica("one", tmp_path, canary_key, **env) as one:
        callers = [one]
        if replicas == 2:
            callers.append(replica("two", tmp_path, canary_key, **env))
        for gateway in callers:
            gateway.secrets["database password"] = postgres.password
            gateway.secrets["Redis password"] = valkey.password
        key = one.new_key("changing")
        answers: list[int] = []
        over = threading.Event()

        def call(gateway: Gateway) -> None:
            while not over.is_set():
                answers.append(post(gateway, key, ask()).status)

        threads = [threading.Thread(target=call, args=(gateway,)) for gateway in callers for _ in range(2)]
        for thread in threads:
            thread.start()
        for change in CHANGES:
            assert admin(one, "PATCH", "/clients/changing", change).status == 200
            before = len(answers)
            while len(answers) < before + 10:
                over.wait(0.02)
        over.set()
        for thread in threads:
            thread.join()
        for gateway in callers[1:]:
            gateway.close()
    known = Counter(answers)
    known.pop(401, None)  # before the other replica had heard of the key
    assert set(known) == {200}
