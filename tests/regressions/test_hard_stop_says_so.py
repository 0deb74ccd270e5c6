"""Issue 12, C9: a hard stop ends a stream as upstream's own limit would, so that clients do not ask again."""

import openai
import pytest
from openai.types.responses import ResponseIncompleteEvent, ResponseTextDeltaEvent

from tests.e2e.program import Gateway
from tests.e2e.test_limits import MODEL, agree

METADATA = {"mock_tokens": "300"}


@pytest.fixture
def key(mocked: Gateway) -> str:
    made = mocked.new_key("bounded")
    agree(mocked, "bounded", output_ceiling=20, hard_stop=True)
    return made


def test_the_openai_sdk_takes_it_for_an_answer_that_reached_its_limit(mocked: Gateway, key: str) -> None:
    with openai.OpenAI(base_url=f"{mocked.url}/v1", api_key=key, timeout=20) as client:
        events = list(client.responses.create(model=MODEL, input="Tell.", stream=True, metadata=METADATA))
    last = events[-1]
    assert isinstance(last, ResponseIncompleteEvent)
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert (last.response.status, last.response.usage) == ("incomplete", None)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert any(isinstance(event, ResponseTextDeltaEvent) for event in events)
    (record,) = [r for r in mocked.records() if r["client"] == "bounded"]
    assert (record["outcome"], record["error_type"]) == ("incomplete", "output_ceiling")
    assert record["usage_source"] in {"estimated", "settled"}


def test_the_stream_helper_of_the_sdk_comes_to_an_end(mocked: Gateway) -> None:
    key = mocked.new_key("bounded-helper")
    agree(mocked, "bounded-helper", output_ceiling=20, hard_stop=True)
    with (
        openai.OpenAI(base_url=f"{mocked.url}/v1", api_key=key, timeout=20) as client,
        client.responses.stream(model=MODEL, input="Tell.", metadata=METADATA) as events,
    ):
        kinds = [event.type for event in events]
    assert kinds[-1] == "response.incomplete"
