"""The same storm against the application in this process, where its tasks and sockets can be counted one by one."""

import asyncio
import gc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from app.gateway.exchange.exchange import Exchange
from app.main import create_app
from app.settings import load_settings
from app.web.connection.protocol import ClientConnection
from tests.edges.fault_server import GOOD_BODY, FaultServer
from tests.edges.raw_client import request, say
from tests.edges.storm import Leaver, storm
from tests.upstream.raw_server import until
from tests.web.front import running

if TYPE_CHECKING:
    from tests.e2e.program import Gateway


def alive(kind: type) -> int:
    """How many objects of a class there are."""
    gc.collect()
    return sum(isinstance(thing, kind) for thing in gc.get_objects())


@pytest.mark.parametrize("clients", [150, pytest.param(1500, marks=(pytest.mark.long, pytest.mark.timeout(600)))])
async def test_no_task_connection_or_exchange_stays(
    fault_server: FaultServer, canary_key: str, tmp_path: Path, clients: int
) -> None:
    environ = {
        "HOME": str(tmp_path),
        "WEIGHBRIDGE_STATE_DIR": str(tmp_path / "state"),
        "WEIGHBRIDGE_UPSTREAM_URL": fault_server.url,
        "WEIGHBRIDGE_UPSTREAM_PASS_HEADERS": "x-fault",
        "OPENROUTER_API_KEY": canary_key,
    }
    app = create_app(load_settings(environ=environ, need_upstream_key=True))
    async with app.router.lifespan_context(app):
        key = await app.state.clients.create_key("alice")
        house = cast("Any", SimpleNamespace(gateway=app.state.gateway, make_key=lambda: key))
        async with running(house, app) as front:
            url = f"http://127.0.0.1:{front.port}"
            gateway = cast("Gateway", SimpleNamespace(url=url, key=front.key))

            async def good_call() -> None:
                heard = await asyncio.to_thread(say, url, request(front.key))
                assert heard.only.body == GOOD_BODY

            await good_call()
            await until(lambda: alive(ClientConnection) == 0)
            tasks, exchanges = len(asyncio.all_tasks()), alive(Exchange)
            await storm(Leaver(gateway, fault_server).leave, clients)
            await until(lambda: app.state.gateway.in_flight == 0)
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            await until(lambda: alive(ClientConnection) == 0)
            await until(lambda: alive(Exchange) <= exchanges + 1)  # the last ones wait for their commit
            await good_call()
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
