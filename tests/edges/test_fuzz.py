"""Damage without end, by seed: requests, bodies and upstream's answers.

Nothing hangs, nothing is a 500 of ours, no key comes through, every call that was admitted has one settled record, and
after each round a good call gets a good answer. A failure names its seed. `WEIGHBRIDGE_FUZZ` says how many of each.
"""

import asyncio
import json
import os
import random
from collections.abc import Callable

import pytest

from tests.e2e.client import ASK, ASK_STREAM
from tests.e2e.program import Gateway
from tests.edges.conftest import IDLE_SECONDS, REQUEST_SECONDS
from tests.edges.fault_server import COMPLETED, EVENT, GOOD, GOOD_BODY, Act, FaultServer
from tests.edges.malformed import REFUSED, WELL_FORMED
from tests.edges.mutation import HTTP_WORDS, JSON_WORDS, damaged
from tests.edges.process_memory import resident_bytes
from tests.edges.raw_client import Heard, read_answers, request, say
from tests.upstream.raw_server import chunked, sized

ROUND = 50  # at once
PATIENCE_SECONDS = REQUEST_SECONDS * 2 + IDLE_SECONDS * 2 + 4
JSON = b"content-type: application/json"
DOCUMENT = b'{"id":"resp_d","object":"response","status":"completed","model":"gpt-5.1","usage":{"input_tokens":1}}'

BODIES = (
    json.dumps(ASK).encode(),
    json.dumps(ASK_STREAM).encode(),
    b'{"model":"m","stream":true,"input":[{"role":"user","content":[{"type":"input_text","text":"\\u00e9\xc3\xa9"}]}]}',
    b'{\n "models": ["a", "b"],\n "max_output_tokens": 5, "metadata": {"a": {"b": [1, 2.5e3, null, false]}}\n}',
)


def answers(key: bytes) -> tuple[bytes, ...]:
    """What upstream says before it is damaged, with and without the key in it."""
    stream = (b"content-type: text/event-stream",)
    return (
        GOOD,
        sized(DOCUMENT, JSON),
        sized(GOOD_BODY, *stream),
        b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        sized(b'{"error":{"message":"No.","code":"because"}}', JSON, b"retry-after: 7", status=b"429 Slow"),
        sized(b"<html>no", b"content-type: text/html", status=b"500 No"),
        sized(b"", b"location: /x", status=b"302 Found"),
        b"HTTP/1.1 200 OK\r\n" + stream[0] + b"\r\n\r\n" + GOOD_BODY,
        chunked(EVENT, b"data: " + key + b"\n\n", COMPLETED, headers=stream),
        sized(b'{"error":{"message":"bad key ' + key + b'"}}', JSON, b"x-debug: " + key, status=b"400 No"),
        sized(b'{"debug":"' + key + b'"}', JSON, b"www-authenticate: " + key, status=b"401 No"),
    )


def how_many(default: int) -> int:
    return int(os.environ.get("WEIGHBRIDGE_FUZZ", default))


async def exchange(url: str, data: bytes) -> tuple[bytes, bool]:
    """All that came until the end, or until nothing more can come: False when that took too long."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**24)
    came = bytearray()
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while piece := await reader.read(65_536):
                came += piece
                _, found = read_answers(bytes(came))
                if found and found[-1].whole and found[-1].value("connection") != "close":
                    break  # it may stay open for the next request
    except ConnectionError:
        pass
    except TimeoutError:
        return bytes(came), False
    finally:
        writer.transport.abort()
    return bytes(came), True


class Fuzz:
    """Rounds of damage against one gateway."""

    def __init__(self, edge: Gateway, fault_server: FaultServer, canary_key: str) -> None:
        self.edge = edge
        self.fault_server = fault_server
        self.canary_key = canary_key
        self.statuses: dict[int, int] = {}

    async def run(self, count: int, make: Callable[[random.Random], bytes], seed: int = 0) -> None:
        before = len(await asyncio.to_thread(self.edge.records))
        for start in range(seed, seed + count, ROUND):
            seeds = range(start, min(start + ROUND, seed + count))
            datas = [make(random.Random(number)) for number in seeds]
            heard = await asyncio.gather(*(exchange(self.edge.url, data) for data in datas))
            for number, data, (raw, in_time) in zip(seeds, datas, heard, strict=True):
                self.judge(f"seed {number}: {data[:3000]!r}", raw, in_time)
            good = await asyncio.to_thread(self.good_call)
            assert (good.only.body, good.seconds < PATIENCE_SECONDS) == (GOOD_BODY, True), f"after seed {start}"
            self.fault_server.forget()
        await asyncio.to_thread(self.edge.idle)
        records = (await asyncio.to_thread(self.edge.records))[before:]
        assert len({record["request_id"] for record in records}) == len(records)
        assert [record for record in records if record["outcome"] == "in_progress"] == []
        assert [
            record for record in records if record["http_status"] == 500 and record["error_type"] == "internal_error"
        ] == []

    def good_call(self) -> Heard:
        """A call as any other. A connection that damage has left behind may fail it, which a client would try again."""
        heard = say(self.edge.url, request(self.edge.key))
        for _ in range(20):
            if b"upstream_protocol_error" not in heard.only.body:
                break
            heard = say(self.edge.url, request(self.edge.key))
        return heard

    def judge(self, what: str, raw: bytes, in_time: bool) -> None:
        assert in_time, f"it hung: {what}"
        assert self.canary_key.encode() not in raw, what
        assert self.edge.key.encode() not in raw, what
        assert self.edge.admin_key.encode() not in raw, what
        assert b"internal_error" not in raw, f"{what} -> {raw!r}"
        assert b"Internal Server Error" not in raw, f"{what} -> {raw!r}"
        for answer in read_answers(raw)[1]:
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1


@pytest.fixture
def fuzz(edge: Gateway, fault_server: FaultServer, canary_key: str) -> Fuzz:
    return Fuzz(edge, fault_server, canary_key)


def damaged_request(key: str) -> Callable[[random.Random], bytes]:
    seeds = [*WELL_FORMED.values(), *(row[0] for row in REFUSED.values() if len(row[0]) < 5000)]
    known = [seed.replace(b"@KEY@", key.encode()) for seed in seeds]
    return lambda rng: damaged(rng.choice(known), HTTP_WORDS, rng)


def damaged_body(key: str) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        return request(key, damaged(rng.choice(BODIES), JSON_WORDS, rng))

    return make


def damaged_answer(key: str, canary_key: str, server: FaultServer) -> Callable[[random.Random], bytes]:
    known = answers(canary_key.encode())

    def make(rng: random.Random) -> bytes:
        data = damaged(rng.choice(known), HTTP_WORDS + JSON_WORDS, rng)
        cut = rng.randint(0, len(data))
        ending = rng.choice(("keep", "close", "reset", "hold"))
        act = Act((data[:cut], data[cut:]), ending)  # type: ignore[arg-type]
        return request(key, rng.choice((ASK, ASK_STREAM)), headers=server.play(act))

    return make


async def test_damaged_requests(fuzz: Fuzz) -> None:
    await fuzz.run(how_many(300), damaged_request(fuzz.edge.key))
    assert {200, 400, 401} <= fuzz.statuses.keys()


async def test_damaged_bodies(fuzz: Fuzz) -> None:
    await fuzz.run(how_many(300), damaged_body(fuzz.edge.key))
    assert {200, 400} == fuzz.statuses.keys()


async def test_damaged_answers(fuzz: Fuzz) -> None:
    await fuzz.run(how_many(300), damaged_answer(fuzz.edge.key, fuzz.canary_key, fuzz.fault_server))
    assert {200, 502, 504} <= fuzz.statuses.keys()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["requests", "bodies", "answers"])
async def test_damage_for_long(fuzz: Fuzz, what: str) -> None:
    makers = {
        "requests": damaged_request(fuzz.edge.key),
        "bodies": damaged_body(fuzz.edge.key),
        "answers": damaged_answer(fuzz.edge.key, fuzz.canary_key, fuzz.fault_server),
    }
    pid = fuzz.edge.process.popen.pid
    before = resident_bytes(pid)
    await fuzz.run(how_many(10_000), makers[what], seed=1_000_000)
    grown = resident_bytes(pid) - before
    assert grown < 20_000_000, f"it grew by {grown} bytes"
