"""Promise P2 under fire: `kill -9` at any moment of fifty streams loses no call that upstream has in its books.

Each call asks for a model of its own name, so that both sides' books can be compared call by call. With a sound
database and with one that somebody locks and lets go at other moments, so that the spool is in use.
"""

import asyncio
import itertools
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.sqlite.store import DATABASE_NAME
from tests.conftest import GatewayStarter
from tests.e2e.books import Json, doubled, findings, misweighed, rows
from tests.e2e.crowd import Ask, Crowd, Told
from tests.e2e.program import Gateway, Mock, eventually

CLIENTS = 50
LONGEST_ROUND = 800  # pieces of answers that come to all clients
FINAL = {"completed", "interrupted"}
FOR_LONG = pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])


class Lock:
    """Somebody else who takes the database for himself, and lets it go."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / DATABASE_NAME
        self._connection: sqlite3.Connection | None = None

    @property
    def held(self) -> bool:
        return self._connection is not None

    def toggle(self) -> None:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=20)
            self._connection.execute("BEGIN EXCLUSIVE")
        else:
            self._connection.close()
            self._connection = None


class Shooting:
    """Rounds of calls on one gateway, each ended by a kill at a moment of its own."""

    def __init__(self, gateway: Gateway, mock: Mock, seed: int) -> None:
        self.gateway = gateway
        self.mock = mock
        self.billed: set[str] = set()  # the models of all calls in the mock's books
        self._numbers = itertools.count()
        self.lock = Lock(gateway.state_dir)
        self.chance = random.Random(seed)
        self.told: list[Told] = []
        self.seen: dict[str, Json] = {}  # what was in the database before a kill
        self.spooled = 0  # kills while records were in the spool

    def ask(self) -> Ask:
        tokens = str(self.chance.choice([1, 5, 20, 60]))
        body = {
            "model": f"openai/gpt-5.5-mini-{next(self._numbers)}",
            "input": "x",
            "stream": self.chance.random() < 0.8,
        }
        return Ask({**body, "metadata": {"mock_tokens": tokens}})

    def round(self, *, meddle: bool) -> None:
        crowd = Crowd(self.gateway.url, self.gateway.key, CLIENTS, self.ask)
        kill_at = self.chance.randint(1, LONGEST_ROUND)
        count = self.chance.choice([0, 1, 1, 2]) if meddle else 0
        toggles = {self.chance.randint(1, 1 + kill_at // 2) for _ in range(count)}

        def heard() -> None:
            if crowd.pieces in toggles:
                self.lock.toggle()
            if crowd.pieces == kill_at:
                self.seen |= rows(self.gateway.state_dir)
                self.spooled += any((self.gateway.state_dir / "spool").glob("records-*"))
                self.gateway.process.tell(signal.SIGKILL)
                crowd.stop()

        crowd.heard = heard
        asyncio.run(crowd.run())
        assert crowd.pieces >= kill_at
        self.gateway.restart()
        self.billed |= {call["model_requested"] for call in self.mock.get("/_mock/books")["calls"]}
        self.told += [one for one in crowd.told if one.terminal is not None]

    def check(self) -> dict[str, Json]:
        """Nothing missing, nothing doubled, nothing open, nothing that was there is gone or has changed."""
        eventually(lambda: self.gateway.get("/readyz").json["status"] == "ready", "an end of the replay")
        found = rows(self.gateway.state_dir)
        recorded = Counter(row["model_requested"] for row in found.values())
        assert self.billed - recorded.keys() == set(), "calls that upstream bills and that have no record"
        assert [model for model, count in recorded.items() if count > 1] == []
        assert misweighed(self.told, found.values()) == []
        assert doubled(found.values()) == []
        assert {row["outcome"] for row in found.values()} <= FINAL
        assert self.seen.keys() <= found.keys()
        changed = [key for key, row in self.seen.items() if row["outcome"] == "completed" and found[key] != row]
        assert changed == []
        assert findings(self.gateway.state_dir) == []
        return found


@pytest.fixture
def shooting(
    start_gateway: GatewayStarter, canary_key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shooting]:
    with Mock(tmp_path_factory.mktemp("mock"), canary_key, "--pace", "200:0.01") as mock:
        yield Shooting(start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock.url}/api/v1"), mock, seed=9)


@pytest.mark.parametrize("kills", [pytest.param(20, marks=pytest.mark.timeout(400)), FOR_LONG])
def test_nothing_is_lost_or_doubled(shooting: Shooting, kills: int) -> None:
    found: dict[str, Json] = {}
    for _ in range(kills):
        shooting.round(meddle=False)
        found = shooting.check()
    outcomes = [row["outcome"] for row in found.values()]
    assert outcomes.count("completed") >= len(shooting.told) > kills
    assert outcomes.count("interrupted") > kills


@pytest.mark.parametrize("kills", [pytest.param(12, marks=pytest.mark.timeout(400)), FOR_LONG])
def test_nothing_is_lost_or_doubled_with_the_spool_in_use(shooting: Shooting, kills: int) -> None:
    for _ in range(kills):
        shooting.round(meddle=True)
        if not shooting.lock.held:
            shooting.check()
    if shooting.lock.held:
        shooting.lock.toggle()
    shooting.check()
    assert shooting.spooled > 0
    assert len(shooting.told) > kills
