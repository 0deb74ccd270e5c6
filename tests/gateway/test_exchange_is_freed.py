"""An exchange that is over is freed at once. In cycles each call left 25 objects to the collector, and memory grew."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from app.domain.errors import UpstreamProtocolError
from app.domain.money.limits import Limits
from tests.gateway.house import House, Visit

HEAD = [(b"content-type", b"text/event-stream")]
COMPLETED = b'data: {"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":3}}}\n\n'


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def complete(visit: Visit) -> None:
    visit.upstream.listener.head(200, HEAD, 0)
    visit.upstream.listener.data(COMPLETED)
    visit.upstream.listener.end()


def break_off(visit: Visit) -> None:
    visit.upstream.listener.head(200, HEAD, 0)
    visit.upstream.listener.broken(UpstreamProtocolError("cut"), 0)


def fail(visit: Visit) -> None:
    visit.upstream.listener.head(500, [(b"content-type", b"application/json")], 0)
    visit.upstream.listener.data(b'{"error":{"code":"server_error"}}')
    visit.upstream.listener.end()


def refuse(visit: Visit) -> None:
    visit.upstream.listener.head(401, [], 0)


def leave(visit: Visit) -> None:
    visit.upstream.listener.head(200, HEAD, 0)
    visit.exchange.leave()


@pytest.mark.parametrize("end", [complete, break_off, fail, refuse, leave])
@pytest.mark.parametrize("limits", [None, Limits(rpm=5, tpm=100_000, concurrency=2)])
async def test_nothing_is_left_to_the_collector(end: Callable[[Visit], None], limits: Limits | None) -> None:
    house = House(at_once=True)
    if limits is not None:
        await house.agree(limits=limits)
    visit = house.visit()
    visit.client.exchange = visit.exchange  # type: ignore[attr-defined] # as the real one has it
    end(visit)
    assert visit.settled
    over = weakref.ref(visit.exchange)
    house.upstream.forget()
    del visit
    assert over() is None
