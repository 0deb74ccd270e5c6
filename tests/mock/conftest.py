"""A mock upstream on a socket, in a thread of its own, so that blocking clients can be tested against it too."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvloop

from app.mock.options import MockOptions
from app.mock.pace import Pace
from app.mock.server import running_mock

KEY = "sk-mock-upstream"


class RunningMock:
    """One mock; `url` has no path."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = KEY
        self.client = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=20)

    def post(self, body: dict[str, Any], fault: str = "", path: str = "/v1/responses") -> httpx2.Response:
        return self.client.post(path, json=body, headers={"x-mock-fault": fault} if fault else {})

    def get(self, path: str) -> Any:
        return self.client.get(path).json()

    def calls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/_mock/books")["calls"]
        return found

    def last(self) -> dict[str, Any]:
        return self.calls()[-1]


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
