"""The mock's books against what clients were told, and by the clock."""

import asyncio
from collections import Counter
from typing import Any

import httpx2
import openai

from app.mock.options import MockOptions
from app.mock.pace import Pace
from app.mock.server import running_mock
from tests.mock.running import RunningMock

NAMES = ("input_tokens", "output_tokens", "total_tokens")


async def test_sums_are_what_clients_were_told(mock: RunningMock) -> None:
    told: Counter[str] = Counter()

    async def call(client: openai.AsyncOpenAI, number: int) -> None:
        body: dict[str, Any] = {"model": "openai/gpt-5.5", "input": f"Call {number} " * 50, "stream": number % 2 == 0}
        body["max_output_tokens"] = 40 + number
        usage: Any = None
        if number % 2:
            usage = (await client.responses.create(**body)).usage
        else:
            async for event in await client.responses.create(**body):
                if event.type in ("response.completed", "response.incomplete"):
                    usage = event.response.usage
        told.update({name: getattr(usage, name) for name in NAMES}, cost_nanousd=round(usage.cost * 1e9))
        told.update(cached_tokens=usage.input_tokens_details.cached_tokens)

    async with openai.AsyncOpenAI(base_url=f"{mock.url}/v1", api_key=mock.key, max_retries=0) as client:
        await asyncio.gather(*(call(client, number % 20) for number in range(40)))
    totals = mock.get("/_mock/books")["totals"]
    assert totals["calls"] == 40
    assert told["cached_tokens"] > 0
    assert {name: totals[name] for name in told} == dict(told)
    calls = mock.calls()
    assert {name: sum(call[name] for call in calls) for name in told} == dict(told)
    stats = mock.get("/_mock/stats")
    assert (stats["requests"], stats["open_streams"], stats["aborted"]) == (40, 0, 0)
    assert stats["connections"] >= stats["open_connections"] >= 1


async def test_generation_appears_after_its_delay() -> None:
    now = [1_000_000.0]
    options = MockOptions(pace=Pace(0, 0), books_delay_seconds=5, clock=lambda: now[0])
    async with running_mock(options) as url, httpx2.AsyncClient(base_url=f"{url}/api/v1") as client:
        answer = await client.post("/responses", json={"model": "openai/gpt-5.5", "input": "hi", "stream": True})
        generation_id = answer.headers["x-generation-id"]
        path = f"/generation?id={generation_id}"
        assert (await client.get(path)).status_code == 404
        now[0] += 4.9
        assert (await client.get(path)).status_code == 404
        now[0] += 0.1
        found = (await client.get(path)).json()["data"]
        (call,) = (await client.get(f"{url}/_mock/books")).json()["calls"]
    assert (found["id"], found["cancelled"], found["streamed"]) == (generation_id, False, True)
    assert found["created_at"] == "1970-01-12T13:46:40Z"
    assert found["native_tokens_completion"] == call["output_tokens"]
    assert round(found["total_cost"] * 1e9) == call["cost_nanousd"] > 0


async def test_a_stream_left_is_billed_as_far_as_it_came() -> None:
    slow = MockOptions(pace=Pace(10_000, 0), seed=1)
    body = {"model": "openai/gpt-4o-mini", "input": "hi", "stream": True, "metadata": {"mock_tokens": "100000"}}
    async with running_mock(slow) as url, httpx2.AsyncClient(base_url=url) as client:
        async with client.stream("POST", "/v1/responses", json=body) as answer:
            async for line in answer.aiter_lines():
                if "output_text.delta" in line:
                    break
        stats: dict[str, int] = {}
        while not stats.get("aborted"):
            stats = (await client.get("/_mock/stats")).json()
        (call,) = (await client.get("/_mock/books")).json()["calls"]
        found = (await client.get(f"/v1/generation?id={call['generation_id']}")).json()["data"]
    assert (call["status"], call["finished"]) == ("aborted", False)
    assert call["aborted_at_event"] == call["events"] >= 5
    assert 0 < call["output_tokens"] < 100_000
    assert call["cost_nanousd"] == call["input_tokens"] * 150 + call["output_tokens"] * 600
    assert found["cancelled"] is True
    assert stats["open_streams"] == 0


async def test_old_calls_are_dropped_and_stay_in_the_sums() -> None:
    options = MockOptions(pace=Pace(0, 0), kept_calls=2)
    async with running_mock(options) as url, httpx2.AsyncClient(base_url=url) as client:
        for _ in range(3):
            await client.post("/v1/responses", json={"input": "hi"})
        books = (await client.get("/_mock/books")).json()
    assert (len(books["calls"]), books["totals"]["calls"]) == (2, 3)
    assert books["totals"]["total_tokens"] > sum(call["total_tokens"] for call in books["calls"])
