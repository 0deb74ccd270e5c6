"""Issue 12, A6: a POST that upstream took, worked on and closed without a byte was sent again, and billed twice."""

import asyncio

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK
from tests.edges.fault_server import FaultServer
from tests.edges.raw_client import request, say
from tests.upstream.raw_server import Peer, sized

WORK_SECONDS = 0.15
"""Longer than any end of a connection may take to be one that was there before the call."""


def test_a_call_that_was_worked_on_is_not_sent_again(start_gateway: GatewayStarter) -> None:
    heads: list[bytes] = []

    async def work_and_hang_up(peer: Peer) -> None:
        for _ in range(2):
            heard = await peer.request()
            assert heard is not None
            heads.append(heard.head)
            if len(heads) == 1:
                await peer.send(sized(b"{}", b"content-type: application/json"))
        await asyncio.sleep(WORK_SECONDS)

    upstream = FaultServer()
    try:
        gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=upstream.url)
        with upstream.greeted(work_and_hang_up):
            assert say(gateway.url, request(gateway.key, ASK)).only.status == 200
            heard = say(gateway.url, request(gateway.key, ASK)).only
        assert (heard.status, heard.error_type) == (502, "upstream_protocol_error")
        assert (len(heads), upstream.accepted) == (2, 1)
        assert [record["retry_count"] for record in gateway.records()] == [0, 0]
    finally:
        upstream.close()
