"""The ASGI side of an exchange, with the server's send() in the test's hands."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message

from app.domain.errors import NotFound
from app.gateway.exchange.ending import Ending
from app.web.doors.asgi_downstream import HIGH_WATER_BYTES, AsgiDownstream
from tests.gateway.forms import HandCall
from tests.gateway.house import COMPLETED, CREATED, DELTA, JSON_CALL, House


class Server:
    """Takes what is sent, one message a time, and only while it is open."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.asked.set()
        await self.open.wait()
        self.messages.append(message)

    @property
    def bodies(self) -> list[tuple[bytes, bool]]:
        return [(m["body"], m["more_body"]) for m in self.messages if m["type"] == "http.response.body"]


class Stage:
    """One exchange with an AsgiDownstream whose run() is under way."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.server = Server()
        self.downstream = AsgiDownstream(self.server.send, [])
        ticket = house.gateway.admit(f"Bearer {house.make_key().text}".encode())
        self.exchange = house.gateway.open(ticket, "POST", "/v1/responses", self.downstream)
        self.downstream.exchange = self.exchange
        house.gateway.send(self.exchange, "/responses", [], b'{"stream":true}')
        self.running = asyncio.create_task(self.downstream.run())

    @property
    def call(self) -> HandCall:
        return self.house.upstream.calls[-1]

    async def settle_down(self) -> None:
        """Let the loop run until run() has nothing more to do."""
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def stage(house: House) -> AsyncIterator[Stage]:
    stage = Stage(house)
    yield stage
    stage.running.cancel()
    await asyncio.gather(stage.running, return_exceptions=True)


async def test_a_quick_client_gets_each_chunk_as_it_came(stage: Stage) -> None:
    stage.call.stream_head()
    await stage.settle_down()
    for chunk in (CREATED, DELTA, COMPLETED):
        stage.call.data(chunk)
        await stage.settle_down()
    stage.call.end()
    assert await stage.running is True
    assert stage.server.messages[0]["type"] == "http.response.start"
    assert stage.server.bodies == [(CREATED, True), (DELTA, True), (COMPLETED, True), (b"", False)]


async def test_what_came_while_the_client_was_slow_goes_out_in_one_piece(stage: Stage) -> None:
    stage.call.stream_head()
    await stage.settle_down()
    stage.server.open.clear()
    stage.call.data(CREATED)
    await stage.settle_down()
    stage.call.data(DELTA, DELTA, COMPLETED)
    stage.call.end()
    stage.server.open.set()
    assert await stage.running is True
    assert stage.server.bodies == [(CREATED, True), (DELTA + DELTA + COMPLETED, False)]


async def test_an_answer_that_came_at_once_is_two_messages(stage: Stage) -> None:
    stage.call.stream_head()
    stage.call.data(CREATED + COMPLETED)
    stage.call.end()
    assert await stage.running is True
    assert stage.server.bodies == [(CREATED + COMPLETED, False)]


async def test_the_head_goes_alone_when_nothing_follows_yet(stage: Stage) -> None:
    stage.call.stream_head()
    await stage.settle_down()
    assert [message["type"] for message in stage.server.messages] == ["http.response.start"]


async def test_the_head_waits_with_an_answer_that_waits_for_its_record(house: House) -> None:
    house.ledger.at_once = False
    stage = Stage(house)
    await stage.settle_down()
    stage.call.json_head()
    stage.call.data(b"{}")
    stage.call.end()
    await stage.settle_down()
    assert stage.server.messages == []
    house.ledger.commit()
    assert await stage.running is True
    assert stage.server.bodies == [(b"{}", False)]


async def test_upstream_waits_for_a_slow_client_and_goes_on_with_it(stage: Stage) -> None:
    stage.call.stream_head()
    await stage.settle_down()
    stage.server.open.clear()
    stage.server.asked.clear()
    stage.call.data(CREATED)
    await stage.server.asked.wait()
    piece = b": " + b"x" * (HIGH_WATER_BYTES // 2) + b"\n\n"
    stage.call.data(piece)
    assert not stage.call.paused.is_set()
    stage.call.data(piece)
    assert stage.call.paused.is_set()
    stage.server.open.set()
    await stage.settle_down()
    assert not stage.call.paused.is_set()
    assert stage.server.bodies == [(CREATED, True), (piece + piece, True)]
    stage.server.open.clear()
    stage.call.data(piece, piece, piece)
    assert stage.call.paused.is_set(), "every time again"
    stage.server.open.set()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_broken_answer_is_sent_as_far_as_it_came_and_not_ended(house: House, at_once: bool) -> None:
    stage = Stage(house)
    stage.call.stream_head()
    await stage.settle_down()
    stage.server.open.clear()
    stage.call.data(CREATED)
    stage.downstream.abort()
    stage.server.open.set()
    assert await stage.running is False
    assert stage.server.bodies == [(CREATED, True)]


async def test_a_client_that_left_ends_the_exchange_and_the_run(stage: Stage) -> None:
    stage.call.stream_head()
    await stage.settle_down()
    stage.downstream.left()
    assert stage.call.cancelled.is_set()
    assert await stage.running is False
    assert stage.server.bodies == []


@pytest.mark.parametrize("read", [True, False])
async def test_a_refusal_is_whole_and_closes_when_the_request_was_not_read(house: House, read: bool) -> None:
    server = Server()
    stage = Stage(house)
    downstream = AsgiDownstream(server.send, [])
    downstream.exchange = stage.exchange
    downstream.request_read = read
    downstream.refuse(NotFound("no"))
    assert await downstream.run() is True
    start = server.messages[0]
    assert start["status"] == 404
    assert ((b"connection", b"close") in start["headers"]) is not read
    assert (b"x-request-id", stage.exchange.record.request_id.encode()) in start["headers"]
    assert len(server.bodies) == 1
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(server.bodies[0][0])
    stage.exchange.leave()
    stage.downstream.abort()
    await stage.running


async def test_a_server_that_stops_leaves_a_record_of_it(house: House) -> None:
    stage = Stage(house)
    house.upstream.calls[-1].stream_head()
    await stage.settle_down()
    stage.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage.running
    stage.exchange.end_by(Ending.DOOR_FAILED)
    assert stage.call.cancelled.is_set()
    assert JSON_CALL not in b"".join(body for body, _ in stage.server.bodies)
