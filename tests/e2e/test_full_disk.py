"""A full disk, and `kill -9`: no call that upstream bills is without a record, while it lasts and afterwards."""

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.books import findings, rows
from tests.e2e.crowd import Ask, Crowd
from tests.e2e.program import Gateway, Mock, eventually
from tests.e2e.test_storage_trouble import filled

CLIENTS = 20
FULL_SECONDS = 1.5


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """A file system of 48 MB at `folder`."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "weighbridge-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        assert not os.environ.get("CI"), "CI must be able to mount a file system, as root does"
        pytest.skip("only root can mount a file system of its own")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # whoever still uses it may end first


class Callers:
    """A crowd that calls a model of another name each time, so that both sides' books can be compared."""

    def __init__(self, gateway: Gateway, mock: Mock) -> None:
        self._numbers = itertools.count()
        self._mock = mock
        self.crowd = Crowd(gateway.url, gateway.key, CLIENTS, self._ask)

    def _ask(self) -> Ask:
        number = next(self._numbers)
        return Ask({"model": f"m-{number}", "input": "x", "stream": bool(number % 2), "metadata": {"mock_tokens": "3"}})

    def missing(self, state_dir: Path) -> set[str]:
        billed = {call["model_requested"] for call in self._mock.get("/_mock/books")["calls"]}
        assert len(billed) > 2 * CLIENTS
        return billed - {row["model_requested"] for row in rows(state_dir).values()}


@pytest.mark.parametrize("room_is_back", [False, True])
def test_killed_with_a_full_disk(
    room_is_back: bool,
    start_gateway: GatewayStarter,
    canary_key: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Either while it is full, or with all still in memory or spool a moment after there is room again."""
    with disk(tmp_path / "state"), Mock(tmp_path_factory.mktemp("mock"), canary_key, "--pace", "0") as mock:
        gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock.url}/api/v1", WEIGHBRIDGE_LOG_LEVEL="warning")
        callers = Callers(gateway, mock)

        async def through() -> None:
            running = asyncio.create_task(callers.crowd.run())
            with filled(gateway.state_dir):
                await asyncio.sleep(FULL_SECONDS)
                ready = (await asyncio.to_thread(gateway.get, "/readyz")).json["parts"]["storage"]
                assert (ready["ok"], ready["kept"], ready["waiting"]) == (False, True, True)
                if not room_is_back:
                    gateway.process.tell(signal.SIGKILL)
                    callers.crowd.stop()
                    await running
            if room_is_back:
                gateway.process.tell(signal.SIGKILL)
                callers.crowd.stop()
                await running

        asyncio.run(through())
        gateway.restart()
        eventually(lambda: gateway.get("/readyz").json["status"] == "ready", "an end of the replay")
        assert callers.missing(gateway.state_dir) == set()
        assert findings(gateway.state_dir) == []
        gateway.close()
