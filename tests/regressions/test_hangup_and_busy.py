"""A terminal that is closed does not end the server; a second server says where the first one is."""

import signal

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, ASK_STREAM
from tests.e2e.program import eventually, run
from tests.e2e.replay import ReplayUpstream, document, stream
from tests.e2e.samples import wire


def test_a_hangup_signal_ends_neither_the_server_nor_its_streams(
    start_gateway: GatewayStarter, replay: ReplayUpstream
) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=replay.url)
    script = stream(wire("01-openai-completed"), [400])
    script.gated = True
    with gateway.calling(ASK_STREAM, replay.play(script)) as call:
        script.go()
        call.read_until(b"data: ")
        gateway.process.tell(signal.SIGHUP)
        script.go()
        script.go()
        assert call.rest().whole
    assert gateway.post(ASK, replay.play(document(b"{}"))).status == 200
    assert gateway.process.popen.poll() is None


def test_a_busy_state_directory_names_the_server_that_has_it(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    done = run("serve", "--demo", "--port", "0", env=gateway.env)
    pid = gateway.process.popen.pid
    assert done.returncode == 1
    assert f"is in use by another Weighbridge process (process id {pid}, at {gateway.url})" in done.stderr
    gateway.process.end(signal.SIGKILL)  # its note stays behind, and is believed by nobody
    gateway.restart()
    eventually(lambda: gateway.get("/healthz").status == 200)
