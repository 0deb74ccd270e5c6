"""Calls in the background: upstream goes on without anybody, and what it weighed is told by its response, later."""

import signal
from pathlib import Path

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import dial, raw_request
from tests.e2e.program import Mock, eventually

BODY = {"model": "gpt-5.5", "input": "Think it over. " * 20, "background": True, "store": True}
TOKENS_EACH = 60


@pytest.mark.parametrize("first", [b'"response.created"', b'"response.output_text.delta"'])
def test_they_are_weighed_once_when_they_are_over(
    start_gateway: GatewayStarter, canary_key: str, tmp_path: Path, first: bytes
) -> None:
    (tmp_path / "mock").mkdir()
    with Mock(tmp_path / "mock", canary_key, "--dialect", "openai", "--pace", "40") as mock:
        gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock.url}/v1")
        body = {**BODY, "metadata": {"mock_tokens": str(TOKENS_EACH)}}
        with gateway.calling(body) as call:
            queued = call.rest().json
        assert (queued["status"], queued["usage"]) == ("queued", None)
        waiting = gateway.record(queued["id"], "response_id")
        assert (waiting["outcome"], waiting["usage_source"], waiting["total_tokens"]) == ("completed", "none", None)
        streamed = raw_request(gateway.key, {**body, "stream": True})
        left, killed = dial(gateway.url), dial(gateway.url)
        for connection in (left, killed):
            connection.sendall(streamed)
            while first not in connection.recv(65_536):
                pass
        left.close()
        eventually(lambda: named(gateway.records(), "in_progress"), "the row of the open call, with its response")
        gateway.restart(signal.SIGKILL)
        killed.close()
        eventually(lambda: {r["usage_source"] for r in gateway.records()} == {"settled"}, "the end of all three")
        records = gateway.records()
        assert sorted(r["outcome"] for r in records) == ["client_closed", "completed", "interrupted"]
        books = mock.get("/_mock/books")["totals"]
        for kind in ("input_tokens", "output_tokens"):
            assert sum(r[kind] for r in records) == books[kind] >= 3 * TOKENS_EACH
        assert all(r["cost_source"] == "priced" for r in records)
        assert gateway.metric("weighbridge_unsettled_records") == 0


def named(records: list[dict[str, object]], outcome: str) -> bool:
    return any(record["outcome"] == outcome and record["response_id"] for record in records)
