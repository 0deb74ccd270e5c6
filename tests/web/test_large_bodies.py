"""Bodies that would take seconds and gigabytes to parse: judged in steps, while others are served."""

import asyncio
from collections.abc import Callable

import pytest

from app.domain.records import Outcome
from app.domain.request import json_scan
from app.gateway.admission.call_facts import CallFacts, read_body, read_in_steps, reads_quickly
from tests.gateway.house import House
from tests.web.front import Front

HEAD = b'{"model":"m-asked","stream":true,"input":'
LARGE = [
    HEAD + b"[" + b"{}," * 250_000 + b"1]}",
    HEAD + b"[" + b"[1]," * 40_000 + b"1]}",
    HEAD + b'"' + b"a, b\\n" * 120_000 + b'"}',
    HEAD + b"[" + b"1," * 300_000 + b"1]}",
]


@pytest.mark.parametrize("body", LARGE, ids=range(len(LARGE)))
async def test_a_large_body_is_read_as_a_small_one(body: bytes) -> None:
    assert not reads_quickly(body)
    assert await read_in_steps(body) == read_body(body) == CallFacts("m-asked", stream=True)


async def test_others_go_between_the_steps() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await read_in_steps(LARGE[0])
    counting.cancel()
    assert turns >= 10


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b"[" * 200_000 + b"]" * 200_000 + b"}",
        HEAD + b"[" + b"1," * 200_000 + b"9" * 5000 + b"]}",
        HEAD + b'"' + b"," * 200_000 + b'","model":"n"}',
        HEAD + b'"' + b"," * 200_000 + b'\xff"}',
        b"[" + HEAD + b'"' + b"," * 200_000 + b'"}]',
        HEAD + b"[" + b"1," * 200_000 + b"]}",
        HEAD.replace(b'"m-asked"', b"5") + b"[" + b"1," * 200_000 + b"1]}",
        HEAD.replace(b"true", b"1") + b"[" + b"1," * 200_000 + b"1]}",
        b"{" + b",".join(b'"k%d":%d' % (number, number) for number in range(60_000)) + b"}",
    ],
    ids=range(9),
)
async def test_what_is_wrong_with_a_large_body_is_found(front: Front, house: House, body: bytes) -> None:
    assert not reads_quickly(body)
    answer = await front.ask("POST", "/v1/responses", "content-type: application/json", key=front.key, body=body)
    answer.is_ours(400, "invalid_request")
    assert house.upstream.calls == []
    (record,) = house.ledger.settled.values()
    assert (record.http_status, record.error_type, record.bytes_in) == (400, "invalid_request", len(body))


async def test_a_large_body_goes_upstream_as_it_came(front: Front, house: House) -> None:
    client = await front.connect()
    client.call(LARGE[1])
    call = await house.upstream.next_call()
    assert call.request.body == LARGE[1]
    client.vanish()


def test_usual_bodies_read_quickly() -> None:
    assert reads_quickly(b"[" * 64 * 1024)
    assert reads_quickly(HEAD + b'"' + b"A" * 1_000_000 + b'"}')
    assert not reads_quickly(HEAD + b'"' + b"A" * 1_100_000 + b'"}')


async def test_nobody_reads_on_for_a_client_that_left(
    front: Front, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The scan ends with the client: this body would take for ever, since its steps are single tokens."""
    monkeypatch.setattr(json_scan, "_STEP", 1)
    monkeypatch.setattr(json_scan, "_SLICE_BYTES", 8)
    client = await front.connect()
    client.call(LARGE[0])
    await until(lambda: house.gateway.in_flight == 1)
    client.vanish()
    await until(lambda: house.gateway.in_flight == 0)
    (record,) = house.ledger.settled.values()
    assert (record.outcome, house.upstream.calls) == (Outcome.CLIENT_CLOSED, [])
    assert caplog.records == [], "and nobody is alarmed"


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)
