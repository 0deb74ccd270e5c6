"""A budget knows what waits in the spool: after a start, and after a change of terms."""

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.store.sqlite.store import DATABASE_NAME
from tests.e2e.program import Gateway, Mock, eventually
from tests.e2e.test_limits import admin, agree, ask, own, post


@pytest.fixture
def team(mock_process: Mock, canary_key: str, tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(tmp_path, canary_key, WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1") as running:
        yield running


@contextmanager
def locked(team: Gateway) -> Iterator[None]:
    with closing(sqlite3.connect(team.state_dir / DATABASE_NAME, isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_change_that_is_refused_forgets_nothing(team: Gateway) -> None:
    key = team.new_key("changed")
    agree(team, "changed", budget_tokens={"day": 100_000})
    with locked(team):
        used = post(team, key, ask()).json["usage"]["total_tokens"]
        assert admin(team, "PATCH", "/clients/changed", {"rpm": 1000}).status == 503
        assert own(team, key)["budgets"][0]["spent"] == used


def test_after_a_start_that_could_not_replay_the_spool(team: Gateway) -> None:
    eventually(lambda: not team.get("/readyz").json["parts"]["storage"]["waiting"], "an empty spool")
    key = team.new_key("spooled")
    agree(team, "spooled", budget_tokens={"day": 100_000})
    with locked(team):
        used = post(team, key, ask()).json["usage"]["total_tokens"]
        team.restart(signal.SIGKILL)
        assert post(team, key, ask()).status == 503
    eventually(lambda: team.get("/readyz").json["parts"]["storage"]["waiting"] is False, "the replay")
    eventually(lambda: team.get("/api/v1/key", key).status == 200, "the budget")
    assert own(team, key)["budgets"][0]["spent"] == used
