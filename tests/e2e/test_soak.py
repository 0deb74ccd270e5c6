"""After half an hour of mixed faults (in the short form, twenty seconds) all is as before, but for the ledger."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from statistics import median

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.books import TOKENS, Json, doubled, findings, rows
from tests.e2e.program import Mock, eventually
from tests.e2e.soak import Look, Soak

SUMS = {**TOKENS, "cost_nanousd": "cost_nanousd"}
UNBILLED = {"upstream_error", "rejected"}


@pytest.fixture
def mock(canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    with Mock(tmp_path_factory.mktemp("mock"), canary_key, "--pace", "150:0.02") as mock:
        yield mock


def minutes(looks: list[Look], begin: float, end: float) -> list[int]:
    """The memory in a part of the time."""
    return [look.rss_kb for look in looks[int(begin * len(looks)) : int(end * len(looks))]]


@pytest.mark.parametrize(
    ("seconds", "growth"),
    [
        pytest.param(20.0, 1.10, marks=pytest.mark.timeout(240)),  # so short, buffers are still growing to their size
        pytest.param(
            float(os.environ.get("SOAK_SECONDS", "1800")), 1.05, marks=[pytest.mark.long, pytest.mark.timeout(7200)]
        ),
    ],
    ids=["short", "long"],
)
def test_soak(start_gateway: GatewayStarter, mock: Mock, seconds: float, growth: float) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock.url}/api/v1", WEIGHBRIDGE_LOG_LEVEL="error")
    for _ in range(3):  # what is opened when it is first needed is open
        gateway.metric("weighbridge_streams_in_flight")
        gateway.post({"model": "openai/gpt-5.5", "input": "hello"})
    before = Look.at(gateway.process.popen.pid)
    soak = Soak(gateway)
    asyncio.run(soak.run(seconds))
    eventually(lambda: gateway.get("/readyz").json["parts"]["storage"]["ok"], "an end of the replay")
    gateway.idle()
    for _ in range(10):
        eventually(lambda: gateway.metric("weighbridge_unsettled_records") == 0, "upstream's books")
    after = eventually(lambda: settled(gateway.process.popen.pid, before), "as many descriptors as before")
    early, late = median(minutes(soak.looks, 0.2, 0.4)), median(minutes(soak.looks, 0.8, 1.0))
    print(f"{soak.calls} calls; RSS {before.rss_kb} then {minutes(soak.looks, 0, 1)}, {after}")  # noqa: T201
    assert late < early * growth
    found = rows(gateway.state_dir)
    check_books(found, mock.get("/_mock/books")["totals"])
    assert len(found) == soak.calls + 3
    assert findings(gateway.state_dir) == []


def settled(pid: int, before: Look) -> Look | None:
    """Connections kept open for the next call are as few as the pool keeps."""
    now = Look.at(pid)
    return now if now.descriptors <= before.descriptors + 8 else None


def check_books(found: dict[str, Json], books: Json) -> None:
    """To the token and the nano-dollar."""
    assert doubled(found.values()) == []
    untold = [row for row in found.values() if row["usage_source"] in ("none", "estimated")]
    assert {row["outcome"] for row in untold} <= UNBILLED, Counter((r["outcome"], r["error_type"]) for r in untold)
    ours = {name: sum(row[name] or 0 for row in found.values()) for name in SUMS}
    assert ours == {name: books[theirs] for name, theirs in SUMS.items()}
