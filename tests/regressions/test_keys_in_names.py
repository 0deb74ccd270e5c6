"""Issue 12, E8: what looks like a key is masked wherever a record is made."""

import pytest

from app.domain.masking import mask_keys
from tests.gateway.house import UPSTREAM_KEY, House, event, response, usage

OURS = "sk-wb-0123456789abcdefghijABCDEFGHIJ0123456789abcdefghij012345"


@pytest.fixture
def house() -> House:
    return House(at_once=True)


@pytest.mark.parametrize(
    "key", [OURS, "sk-proj-abcdefgh", UPSTREAM_KEY, "sk-ant-api03-x_y-zABCDEFGH", "eyJhbGciOiJI.eyJzdWIi.x"]
)
def test_a_key_in_place_of_a_model(house: House, key: str) -> None:
    visit = house.visit(b'{"model":"%b","stream":true}' % key.encode())
    assert visit.upstream.request.body == b'{"model":"%b","stream":true}' % key.encode(), (
        "what goes upstream is the same"
    )
    visit.upstream.stream_head((b"x-generation-id", f"gen-{OURS}".encode()))
    answer = {**response(usage=usage()), "model": f"openai/{OURS}", "id": f"resp-{OURS}"}
    visit.upstream.data(event("response.completed", response=answer))
    record = visit.record
    assert record.model_requested == "***"
    assert key not in repr(record)
    assert OURS not in repr(record)
    assert record.model_served == "openai/***"


def test_a_refused_call_as_well(house: House) -> None:
    visit = house.visit(b'{"model":"%b","stream":true,"Stream":true}' % OURS.encode())
    assert OURS not in repr(visit.record)


@pytest.mark.parametrize(
    "name", ["openai/gpt-5.5", "task-optimized-model", "desk-assistant-large", "sk-small", "risk-assessor-9"]
)
def test_names_of_models_stay(name: str) -> None:
    assert mask_keys(name) == name
