"""Clients that leave, do not read, or are cut off: upstream is closed, memory stays bounded, the record is kept."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.domain.records import Outcome, Record
from app.web.application import Application
from tests.gateway.forms import HandCall
from tests.gateway.house import COMPLETED, CREATED, DELTA, DONE, House
from tests.web.front import Front, RawClient, running

PATIENCE_SECONDS = 3
"""Three times what is promised: the machine is shared."""

CALLS = [b'{"stream":true,"input":"%s"}' % (b"x" * size) for size in (0, 100_000, 200_000, 500_000)]
EVERY_SIZE = pytest.mark.parametrize("body", CALLS, ids=["empty", "100 KB", "200 KB", "500 KB"])


@pytest.fixture(params=["ours", "bare"])
async def front(house: House, app: Application, request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    async with running(house, app, request.param) as front:
        yield front


async def record_of(house: House) -> Record:
    """The one record, as soon as it is settled."""
    await asyncio.wait_for(house.ledger.settlement.wait(), PATIENCE_SECONDS)
    return next(iter(house.ledger.settled.values()))


async def is_dropped(call: HandCall) -> None:
    await asyncio.wait_for(call.cancelled.wait(), PATIENCE_SECONDS)


@pytest.mark.parametrize("how", ["abort", "close"])
@EVERY_SIZE
async def test_a_client_that_leaves_before_the_first_byte(front: Front, house: House, how: str, body: bytes) -> None:
    client = await front.connect()
    client.call(body)
    call = await house.upstream.next_call()
    assert call.request.body == body
    await gone(client, how)
    await is_dropped(call)
    record = await record_of(house)
    assert (record.outcome, record.http_status, record.error_type) == (Outcome.CLIENT_CLOSED, None, None)
    assert house.gateway.in_flight == 0


@pytest.mark.parametrize("how", ["abort", "close"])
@EVERY_SIZE
async def test_a_client_that_leaves_in_mid_stream(front: Front, house: House, how: str, body: bytes) -> None:
    client = await front.connect()
    client.call(body)
    call = await house.upstream.next_call()
    call.stream_head()
    call.data(CREATED)
    await client.head()
    assert await client.chunk() == CREATED
    await gone(client, how)
    await is_dropped(call)
    record = await record_of(house)
    assert (record.outcome, record.http_status, record.bytes_out) == (Outcome.CLIENT_CLOSED, 200, len(CREATED))


async def test_a_client_that_leaves_its_second_request_pipelined_behind_the_first(front: Front, house: House) -> None:
    client = await front.connect()
    client.call()
    first = await house.upstream.next_call()
    client.call()
    await asyncio.sleep(0.05)  # until it has been read
    first.stream_head()
    first.data(COMPLETED)
    first.end()
    second = await house.upstream.next_call()
    for _ in range(5):
        await asyncio.sleep(0)  # until the first one's task is over
    client.vanish()
    await is_dropped(second)
    assert house.gateway.in_flight == 0


async def test_a_client_that_leaves_with_the_terminal_event_as_codex_does(front: Front, house: House) -> None:
    client = await front.connect()
    client.call()
    call = await house.upstream.next_call()
    call.stream_head()
    call.data(COMPLETED)
    await client.head()
    assert await client.chunk() == COMPLETED
    client.vanish()
    await is_dropped(call)
    record = await record_of(house)
    assert (record.outcome, record.total_tokens) == (Outcome.COMPLETED, 57)
    assert house.gateway.in_flight == 0


async def test_a_client_that_leaves_while_the_record_is_committed(front: Front, house: House) -> None:
    house.ledger.at_once = False
    client = await front.connect()
    client.call()
    call = await house.upstream.next_call()
    call.stream_head()
    call.data(COMPLETED)
    client.vanish()
    await is_dropped(call)
    house.ledger.commit()
    assert (await record_of(house)).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("sent", [b"", b'{"stream"'])
async def test_a_client_that_leaves_in_its_own_request(front: Front, house: House, sent: bytes) -> None:
    client = await front.connect()
    client.request("POST", "/v1/responses", "content-type: application/json", body=sent, length=1000)
    await asyncio.wait_for(house.observer.began.wait(), PATIENCE_SECONDS)
    client.vanish()
    assert (await record_of(house)).outcome is Outcome.CLIENT_CLOSED
    assert house.upstream.calls == []
    assert house.gateway.in_flight == 0


async def test_a_slow_reader_makes_upstream_wait_and_gets_everything_later(front: Front, house: House) -> None:
    client = await front.connect()
    client.stop_reading()
    client.call()
    call = await house.upstream.next_call()
    call.stream_head()
    event = b"data: " + b"x" * 50_000 + b"\n\n"
    said = 0
    async with asyncio.timeout(20):
        while not call.paused.is_set():
            call.data(event)
            said += len(event)
            await asyncio.sleep(0)
    assert said < 20_000_000, "what waits in the process and the sockets is bounded"
    client.read_on()
    await client.head()
    received = await client.body(said)
    assert received == event * (said // len(event))
    await asyncio.wait_for(call.resumed.wait(), PATIENCE_SECONDS)
    call.data(COMPLETED, DONE)
    call.end()
    assert await client.body(len(COMPLETED + DONE)) == COMPLETED + DONE
    assert await client.chunk() == b""
    assert (await record_of(house)).bytes_out >= said
    await client.close()


async def test_a_slow_reader_that_leaves_takes_upstream_along(front: Front, house: House) -> None:
    client = await front.connect()
    client.stop_reading()
    client.call()
    call = await house.upstream.next_call()
    call.stream_head()
    async with asyncio.timeout(20):
        while not call.paused.is_set():
            call.data(b"data: " + b"x" * 50_000 + b"\n\n")
            await asyncio.sleep(0)
    client.vanish()
    await is_dropped(call)
    assert (await record_of(house)).outcome is Outcome.CLIENT_CLOSED


async def test_an_answer_that_the_server_cannot_send_is_settled_all_the_same(front: Front, house: House) -> None:
    """More body than Content-Length announced: the server raises. Upstream's wire would not let it through."""
    client = await front.connect()
    client.call()
    call = await house.upstream.next_call()
    call.stream_head((b"content-length", b"3"))
    call.data(DELTA)
    answer = await client.answer()
    assert answer.status == 500 or not answer.whole
    await is_dropped(call)
    await record_of(house)
    assert house.gateway.in_flight == 0
    await client.close()


async def gone(client: RawClient, how: str) -> None:
    if how == "abort":
        client.vanish()
    else:
        await client.close()
