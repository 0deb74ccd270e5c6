"""A flood by one client, and a loop that cannot keep up: answered with 503, never with hanging."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.e2e.client import ASK, ASK_STREAM, Answer, opened
from tests.e2e.program import Gateway, Mock, eventually

MOST = 20
SERVED_SECONDS = 3.0
"""A slow disk may take one of them; who were kept waiting would wait for 20."""

SLOW = {"x-mock-fault": "slow-first-byte=20s"}


def test_one_clients_streams_leave_room_for_another(start_gateway: Callable[..., Gateway], mock_process: Mock) -> None:
    """alice holds all there is and asks for more, 200 calls of it; bob's one call is served as ever."""
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1", WEIGHBRIDGE_MAX_STREAMS=str(MOST))
    alice, bob = gateway.new_key("alice"), gateway.new_key("bob")
    url = f"{gateway.url}/api/v1/responses"

    def hold(stack: ExitStack) -> Answer:
        return stack.enter_context(opened(url, alice, ASK_STREAM, {"x-mock-fault": "stall@3"})).answer

    def flood(_: int) -> tuple[Answer, float]:
        began = time.monotonic()
        with opened(url, alice, ASK) as call:
            return call.rest(), time.monotonic() - began

    with ExitStack() as stack:
        assert [hold(stack).status for _ in range(MOST)] == [200] * MOST
        with ThreadPoolExecutor(20) as threads:
            flooding = threads.map(flood, range(200))
            served = []
            for _ in range(5):
                began = time.monotonic()
                with opened(url, bob, ASK) as call:
                    served.append((call.rest().status, time.monotonic() - began))
            refused = list(flooding)
    assert [status for status, _ in served] == [200] * 5
    assert max(seconds for _, seconds in served) < SERVED_SECONDS
    assert {(answer.status, answer.error_type) for answer, _ in refused} == {(503, "overloaded")}
    assert all(answer.value("retry-after") for answer, _ in refused)
    gateway.idle()
    assert gateway.metric("weighbridge_refusals_total", reason="overloaded") == len(refused)


def test_a_loop_that_stays_late_takes_no_new_calls(start_gateway: Callable[..., Gateway], mock_process: Mock) -> None:
    """The process is stopped and let go again and again: the clock goes on and the loop does not."""
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1", WEIGHBRIDGE_MAX_LOOP_LAG="200ms")

    def late() -> bool:
        gateway.process.tell(signal.SIGSTOP)
        time.sleep(0.8)
        gateway.process.tell(signal.SIGCONT)
        assert gateway.get("/healthz").status == 200
        answer = gateway.post(ASK)
        return answer.status == 503 and answer.error_type == "overloaded" and bool(answer.value("retry-after"))

    assert gateway.post(ASK).status == 200
    eventually(late, "a 503")
    eventually(lambda: gateway.post(ASK).status == 200, "a calm loop")
