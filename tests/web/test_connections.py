"""A connection holds 64 KiB ahead of its answers at the most, and nothing once it is closed (issue 12, A2 and E14)."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest

from app.web.connection.lingering_close import LINGER_SECONDS, SILENCE_SECONDS
from app.web.connection.protocol import MAX_UNPARSED_BYTES, ClientConnection
from app.web.connection.response_cycle import ResponseCycle
from tests.gateway.house import House
from tests.web.front import Front, RawClient

PROBE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connection() -> ClientConnection:
    """The one that there is."""
    (found,) = (thing for thing in gc.get_objects() if isinstance(thing, ClientConnection))
    return found


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def living() -> list[weakref.ref[object]]:
    return [weakref.ref(thing) for thing in gc.get_objects() if isinstance(thing, (ClientConnection, ResponseCycle))]


async def silent(client: RawClient, _: House) -> None:
    client.send(b"")


async def in_its_head(client: RawClient, _: House) -> None:
    client.send(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 50_000)


async def in_its_body(client: RawClient, house: House) -> None:
    client.request("POST", "/v1/responses", "content-type: application/json", body=b"{" + b" " * 50_000, length=90_000)
    await house.observer.began.wait()


async def waiting_for_its_answer(client: RawClient, house: House) -> None:
    client.call(b'{"input":"%b"}' % (b"x" * 50_000))
    await house.upstream.next_call()
    client.send(PROBE * 2000)  # more than is read ahead


async def with_its_answer(client: RawClient, house: House) -> None:
    client.call()
    call = await house.upstream.next_call()
    call.json_head(200, (b"content-length", b"2"))
    call.data(b"{}")
    call.end()
    await client.answer()


async def refused_by_the_connection(client: RawClient, _: House) -> None:
    client.send(b"nonsense\r\n\r\n")
    await client.answer()


async def refused_in_its_body(client: RawClient, _: House) -> None:
    client.request("POST", "/v1/responses", "content-type: application/json", "transfer-encoding: chunked")
    client.send(b"nonsense\r\n")
    await client.answer()


async def refused_by_the_application(client: RawClient, _: House) -> None:
    client.key = None
    client.request("POST", "/v1/responses", "content-type: application/json", length=90_000)
    await client.answer()


async def answered_by_a_page(client: RawClient, _: House) -> None:
    client.request("GET", "/healthz")
    await client.answer()


@pytest.mark.parametrize(
    "reach",
    [
        silent,
        in_its_head,
        in_its_body,
        waiting_for_its_answer,
        with_its_answer,
        refused_by_the_connection,
        refused_in_its_body,
        refused_by_the_application,
        answered_by_a_page,
    ],
)
@pytest.mark.usefixtures("no_collection")
async def test_a_connection_that_ends_is_freed_without_a_collection(
    front: Front, house: House, reach: Callable[[RawClient, House], Awaitable[None]]
) -> None:
    client = await front.connect()
    await reach(client, house)
    await asyncio.sleep(0.02)  # until the rest was read
    held = living()
    assert held
    client.vanish()
    await until(lambda: all(thing() is None for thing in held))


async def test_no_more_is_read_ahead_than_may_wait(front: Front, house: House) -> None:
    client = await front.connect()
    client.call()
    call = await house.upstream.next_call()
    served = connection()
    client.send(PROBE * 200_000)
    await until(lambda: served.flow.read_paused)
    assert len(served._unparsed) == MAX_UNPARSED_BYTES
    call.json_head(200, (b"content-length", b"2"))
    call.data(b"{}")
    call.end()
    assert (await client.answer()).body == b"{}"
    for _ in range(50):
        assert (await client.answer()).status == 200, "and it is read on"
    client.vanish()


@pytest.mark.parametrize(("lively", "seconds"), [(False, SILENCE_SECONDS), (True, LINGER_SECONDS)])
async def test_a_refused_client_is_read_on_for_a_while(front: Front, lively: bool, seconds: float) -> None:
    client = await front.connect()
    client.key = None
    client.request("POST", "/v1/responses", "content-type: application/json", length=50_000_000)
    (await client.answer()).is_ours(401, "authentication")
    served = connection()
    now = asyncio.get_running_loop().time()
    if lively:
        served._lingering.discard(1, now + seconds - 1)  # type: ignore[union-attr]
    served.check(now + seconds - 0.5)
    assert not served.is_closing()
    served.check(now + seconds + 1)
    assert served.is_closing()
    client.vanish()
