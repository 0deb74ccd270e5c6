"""Issue 12, B: however calls end, the ledger has what upstream bills or more, and budgets count what the ledger has."""

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import dial, raw_request
from tests.e2e.program import Gateway, Mock, eventually
from tests.e2e.test_limits import MODEL, agree, own

FAULTS = (
    *("none", "slow-first-byte=0.2s", "slow-first-byte=5s", "stall@5", "truncate@7"),
    *("status=429", "close@0", "reset@0", "close@3"),
)
FEW, MANY = 40, 1000


def call(rng: random.Random) -> dict[str, Any]:
    tokens = rng.choice([20, 200, 2000])
    return {
        "model": MODEL,
        "input": "Tell me a story." * rng.randrange(1, 20),
        "max_output_tokens": tokens,
        "stream": rng.random() < 0.6,
    }


def go_through(gateway: Gateway, key: str, rng: random.Random) -> None:
    """One call, left somewhere, or read to its end."""
    headers = {"x-mock-fault": rng.choice(FAULTS), "Connection": "close"}
    if headers["x-mock-fault"] == "none":
        del headers["x-mock-fault"]
    with dial(gateway.url) as connection:
        connection.settimeout(rng.choice([0.01, 0.05, 0.4, 3]))
        connection.sendall(raw_request(key, call(rng), headers=headers))
        with contextlib.suppress(TimeoutError):
            while connection.recv(rng.choice([100, 65_536])):
                pass


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_what_is_billed_is_in_the_ledger_and_on_the_budget(
    mock_process: Mock, canary_key: str, tmp_path: Path, count: int
) -> None:
    known = {entry["id"] for entry in mock_process.get("/_mock/books")["calls"]}
    env = {"WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1", "WEIGHBRIDGE_FIRST_BYTE_TIMEOUT": "1"}
    env["WEIGHBRIDGE_IDLE_TIMEOUT"] = "1"
    with Gateway(tmp_path, canary_key, **env) as gateway:
        key = gateway.new_key("audited")
        agree(gateway, "audited", budget_usd={"total": "1000"}, budget_tokens={"total": 10**9})
        ways = [random.Random(f"{count}.{number}") for number in range(count)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(partial(go_through, gateway, key), ways))
        gateway.idle()
        eventually(lambda: gateway.metric("weighbridge_unsettled_records") == 0, "what upstream's records tell")
        eventually(lambda: not any(r["outcome"] == "in_progress" for r in gateway.records()), "all ends")
        ledger = [r for r in gateway.records() if r["client"] == "audited"]
        billed = [entry for entry in mock_process.get("/_mock/books")["calls"] if entry["id"] not in known]
        by_unit = {budget["unit"]: budget for budget in own(gateway, key)["budgets"]}
    assert len(ledger) == count
    cost = sum(float(r["cost_usd"] or 0) for r in ledger)
    assert cost >= sum(entry["cost_nanousd"] for entry in billed) / 1e9 - 1e-9
    assert float(by_unit["usd"]["spent"]) == pytest.approx(cost, abs=1e-8)
    assert by_unit["tokens"]["spent"] == sum((r["input_tokens"] or 0) + (r["output_tokens"] or 0) for r in ledger)
    assert [budget["reserved"] for budget in by_unit.values()] in ([0, "0"], ["0", 0])
