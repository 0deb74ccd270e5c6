"""`kill -9` loses no call that went upstream. Those younger than 0.35 s had no record, and no budget counted them."""

import signal
from decimal import Decimal

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK_STREAM, dial, raw_request
from tests.e2e.program import eventually
from tests.e2e.replay import ReplayUpstream, Script, head

BUDGET_USD = "1"


def test_killed_the_instant_upstream_has_the_call(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=replay.url)
    for number in range(1, 4):
        script = Script(b"", ending="hold")
        with dial(gateway.url) as connection:
            connection.sendall(raw_request(gateway.key, ASK_STREAM, headers=replay.play(script)))
            script.wait_for_call()
            gateway.process.tell(signal.SIGKILL)
            gateway.restart()
        records = gateway.records()
        assert [record["outcome"] for record in records] == ["interrupted"] * number
        assert {record["model_requested"] for record in records} == {ASK_STREAM["model"]}


def test_a_budget_counts_it_by_its_worst_case(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    """And upstream's books can be asked about it by the id that came with the head."""
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=replay.url)
    gateway.command("clients", "set", "default", "--budget-usd", f"{BUDGET_USD}/total")
    script = Script(head([("X-Generation-Id", "gen-7"), ("Content-Type", "text/event-stream")]), ending="hold")
    body = {**ASK_STREAM, "model": "openai/gpt-4o-mini", "max_output_tokens": 100_000}
    with dial(gateway.url) as connection:
        connection.sendall(raw_request(gateway.key, body, headers=replay.play(script)))
        assert connection.recv(10) == b"HTTP/1.1 2"
        gateway.process.tell(signal.SIGKILL)
        gateway.restart()
    record = gateway.records()[0]
    assert (record["outcome"], record["usage_source"], record["cost_source"]) == (
        "interrupted",
        "estimated",
        "estimated",
    )
    assert record["generation_id"] == "gen-7"
    assert record["output_tokens"] == 100_000
    assert Decimal(record["cost_usd"]) > Decimal("0.05")
    spent = eventually(lambda: gateway.json_of("clients", "show", "default")["usage"]["cost_usd"], "the sum")
    assert spent == record["cost_usd"]
