"""A mock upstream on a socket, in a thread of its own, so that blocking clients can be tested against it too."""

import asyncio
import queue
import threading
from collections.abc import Iterator

import pytest
import uvloop

from app.mock.options import MockOptions
from app.mock.pace import Pace
from app.mock.server import running_mock
from tests.mock.running import KEY, RunningMock


@pytest.fixture(scope="session")
def served() -> Iterator[RunningMock]:
    urls: queue.Queue[str] = queue.Queue()
    stops: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        stop = asyncio.Event()
        stops.put((asyncio.get_running_loop(), stop))
        async with running_mock(MockOptions(key=KEY, pace=Pace.parse("0"))) as url:
            urls.put(url)
            await stop.wait()

    thread = threading.Thread(target=lambda: uvloop.run(serve()), name="mock upstream")
    thread.start()
    running = RunningMock(urls.get(timeout=20))
    yield running
    running.client.close()
    loop, stop = stops.get()
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)


@pytest.fixture
def mock(served: RunningMock) -> RunningMock:
    served.client.post("/_mock/reset")
    return served
