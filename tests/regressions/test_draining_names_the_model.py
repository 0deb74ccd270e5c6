"""Issue 12, E16: records of calls refused since the server stops name the model, where the body could be read."""

import signal

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, ASK_STREAM, encoded
from tests.e2e.program import Mock, eventually
from tests.edges.raw_client import request, say

LARGE = encoded({**ASK, "input": "x" * 70_000})
INVALID = b'{"model":'


def test_a_call_that_is_refused_while_draining_names_its_model(
    start_gateway: GatewayStarter, mock_process: Mock
) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1", WEIGHBRIDGE_DRAIN_TIMEOUT="300")
    call = request(gateway.key, ASK_STREAM)
    middle = call.index(b"\r\n\r\n") + 4
    with gateway.calling(ASK_STREAM, {"x-mock-fault": "stall@3"}) as running:
        assert running.answer.status == 200
        gateway.process.tell(signal.SIGTERM)
        eventually(lambda: gateway.get("/readyz").status == 503, "the news that it stops")
        heard = [
            say(gateway.url, call),
            say(gateway.url, call[:middle], call[middle:]),
            say(gateway.url, request(gateway.key, LARGE)),
            say(gateway.url, request(gateway.key, INVALID)),
            say(gateway.url, request(gateway.key, ASK, headers={"Expect": "100-continue"})[:-5]),
            say(gateway.url, call[:-5]),
        ]
        assert [(each.only.status, each.only.error_type) for each in heard] == [(503, "draining")] * 6
        assert heard[4].interim == 0, "what is refused is not asked for"
        assert heard[5].seconds < 3
        models = [record["model_requested"] for record in gateway.records() if record["error_type"] == "draining"]
        gateway.process.tell(signal.SIGTERM)
    assert models == ["openai/gpt-5.1", "openai/gpt-5.1", None, None, None, None]
