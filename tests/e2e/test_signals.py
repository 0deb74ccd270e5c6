"""Stopping: the first signal lets streams end, the second one does not; both leave with exit code 0 and full books."""

import signal
import time

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK_STREAM, dial
from tests.e2e.program import Gateway, eventually
from tests.e2e.replay import ReplayUpstream, stream
from tests.e2e.samples import wire

STOPS = (signal.SIGTERM, signal.SIGINT)


def refusing(gateway: Gateway) -> bool:
    """Does nobody listen any more?"""
    try:
        dial(gateway.url).close()
    except ConnectionRefusedError:
        return True
    return False


def outcomes_after_restart(gateway: Gateway) -> list[str]:
    gateway.restart()
    return [record["outcome"] for record in gateway.records()]


@pytest.mark.parametrize("number", STOPS)
def test_idle(start_gateway: GatewayStarter, number: int) -> None:
    gateway = start_gateway()
    idle_connection = dial(gateway.url)  # one that a client keeps open does not keep us
    assert gateway.process.end(number) == 0
    idle_connection.close()
    assert not (gateway.state_dir / "server.json").exists()
    assert not (gateway.state_dir / "admin.sock").exists()
    assert "Traceback" not in gateway.process.err


@pytest.mark.parametrize("number", STOPS)
def test_a_running_stream_ends_properly(start_gateway: GatewayStarter, replay: ReplayUpstream, number: int) -> None:
    gateway, body = start_gateway(), wire("01-openai-completed")
    script = stream(body, [1_000])
    script.gated = True
    with gateway.calling(ASK_STREAM, replay.play(script)) as call:
        script.go()
        call.read_until(body[:1_000])
        gateway.process.tell(number)
        eventually(lambda: refusing(gateway), "a closed door")
        script.go()
        script.go()
        answer = call.rest()
    assert (answer.body, answer.whole) == (body, True)
    assert gateway.process.wait() == 0
    assert outcomes_after_restart(gateway) == ["completed"]


@pytest.mark.parametrize("number", STOPS)
def test_the_second_signal_hurries(start_gateway: GatewayStarter, replay: ReplayUpstream, number: int) -> None:
    gateway, body = start_gateway(WEIGHBRIDGE_DRAIN_TIMEOUT="600s"), wire("47-cut-before-terminal")
    script = stream(body, ending="hold")
    with gateway.calling(ASK_STREAM, replay.play(script)) as call:
        call.read_until(body[-40:])
        gateway.process.tell(number)
        eventually(lambda: refusing(gateway), "a closed door")
        assert gateway.process.popen.poll() is None
        gateway.process.tell(number)
        assert gateway.process.wait() == 0
        answer = call.rest()
    assert (answer.body, answer.whole) == (body, False)
    assert script.seen[0].gone.wait(20)
    assert outcomes_after_restart(gateway) == ["interrupted"]


def test_patience_ends(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway(WEIGHBRIDGE_DRAIN_TIMEOUT="1s")
    script = stream(wire("47-cut-before-terminal"), ending="hold")
    with gateway.calling(ASK_STREAM, replay.play(script)) as call:
        call.read()
        asked_at = time.monotonic()
        assert gateway.process.end() == 0
        assert 0.9 < time.monotonic() - asked_at < 10
        assert not call.rest().whole
    assert outcomes_after_restart(gateway) == ["interrupted"]
