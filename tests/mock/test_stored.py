"""Stored responses, and calls that nobody waits for."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from app.mock.options import MockOptions
from app.mock.pace import Pace
from app.mock.server import running_mock
from app.mock.stored import StoredResponses
from tests.mock.running import RunningMock


@pytest.fixture
def client(mock: RunningMock) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{mock.url}/v1", api_key=mock.key, max_retries=0) as made:
        yield made


def test_what_was_made_can_be_read_and_deleted(client: openai.OpenAI) -> None:
    made = client.responses.create(model="mock/openai", input="hi")
    assert client.responses.retrieve(made.id) == made
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    unstored = client.responses.create(model="mock/openai", input="hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(unstored.id)


def test_a_conversation_grows(client: openai.OpenAI) -> None:
    first = client.responses.create(model="mock/openai", input="hi " * 400)
    second = client.responses.create(model="mock/openai", input="and?", previous_response_id=first.id)
    assert first.usage is not None
    assert second.usage is not None
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    assert second.usage.input_tokens_details.cached_tokens > 0


def test_input_items_in_pages(client: openai.OpenAI) -> None:
    items: Any = [{"role": "user", "content": f"part {number}"} for number in range(5)]
    made = client.responses.create(model="mock/openai", input=items)
    page = client.responses.input_items.list(made.id, limit=2, order="asc")
    assert page.has_more
    texts = [item.to_dict()["content"][0]["text"] for item in page]  # type: ignore[index]
    assert texts == [f"part {number}" for number in range(5)]
    newest = client.responses.input_items.list(made.id, limit=1).data[0]
    assert newest.to_dict()["content"][0]["text"] == "part 4"  # type: ignore[index]


def test_a_background_stream_can_be_read_again(client: openai.OpenAI, mock: RunningMock) -> None:
    with client.responses.create(model="mock/openai", input="hi", background=True, stream=True) as stream:
        events = [event.to_dict() for event in stream]
    assert [event["type"] for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    response_id = mock.last()["id"]
    with client.responses.retrieve(response_id, stream=True, starting_after=5) as again:
        assert [event.to_dict() for event in again] == events[6:]
    assert mock.get("/_mock/books")["totals"]["calls"] == 1


def test_only_background_streams_can_be_read_again(client: openai.OpenAI) -> None:
    made = client.responses.create(model="mock/openai", input="hi")
    with pytest.raises(openai.BadRequestError):
        client.responses.retrieve(made.id, stream=True)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)


async def test_background_calls_take_their_time_and_can_be_cancelled() -> None:
    slow = MockOptions(pace=Pace(1, 3600), dialect="openai")
    async with running_mock(slow) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        made = await client.responses.create(model="openai/gpt-5.5", input="hi", background=True)
        assert (made.status, made.usage) == ("queued", None)
        assert (await client.responses.retrieve(made.id)).status == "in_progress"
        assert (await client.responses.cancel(made.id)).status == "cancelled"
        assert (await client.responses.retrieve(made.id)).status == "cancelled"


def test_a_background_call_ends(client: openai.OpenAI, mock: RunningMock) -> None:
    made = client.responses.create(model="mock/openai", input="hi", background=True)
    while (found := client.responses.retrieve(made.id)).status == "in_progress":
        pass
    assert found.status == "completed"
    assert found.usage is not None
    assert found.usage.total_tokens == mock.last()["total_tokens"]


def test_the_oldest_are_dropped() -> None:
    kept = StoredResponses(most=2)
    for name in "abc":
        kept.add(_Stored(name))  # type: ignore[arg-type]
    assert [kept.get(name) is not None for name in "abc"] == [False, True, True]


class _Stored:
    def __init__(self, name: str) -> None:
        self.entry = self
        self.id = name
