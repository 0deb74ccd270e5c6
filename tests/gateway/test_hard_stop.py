"""The hard stop: a stream at its ceiling ends with one whole event of ours, wherever upstream's chunks are cut."""

import gzip
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.windows import Period
from app.domain.records import Outcome
from tests.gateway.house import STREAM_CALL, House, Visit

TOKENS = 10
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "model": "m-served",
    "status": "in_progress",
    "output": [],
    "usage": None,
    "text": "a\u2028b",
}
LINE_ENDS = [b"\n", b"\r\n", b"\r"]


def sse(end: bytes, named: bool, kind: str, **fields: Any) -> bytes:  # noqa: ANN401 - any JSON
    name = b"event: " + kind.encode() + end if named else b""
    return name + b"data: " + json.dumps({"type": kind, **fields}, ensure_ascii=False).encode() + end + end


def events(end: bytes = b"\n", *, named: bool = True, numbered: bool = True) -> list[bytes]:
    """A long answer."""

    def number(at: int) -> dict[str, int]:
        return {"sequence_number": at} if numbered else {}

    made = [sse(end, named, "response.created", response=RESPONSE, **number(0))]
    for at in range(1, 40):
        made.append(sse(end, named, "response.output_text.delta", delta="some words", **number(at)))
        if at % 5 == 0:
            made.append(b": keep-alive" + end + end)
    return made


async def stopped(**terms: Any) -> Visit:  # noqa: ANN401 - ClientTerms' own fields
    house = House(at_once=True)
    budget = Budget(Unit.TOKENS, Period.DAY, 10**6)
    await house.agree(limits=Limits(budgets=(budget,)), output_ceiling=TOKENS, hard_stop=True, **terms)
    return house.visit(STREAM_CALL)


def parsed(event: bytes) -> Any:  # noqa: ANN401 - any JSON
    (data,) = [
        line[5:] for line in event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if line[:5] == b"data:"
    ]
    return json.loads(data)


def cut(body: bytes, places: set[int]) -> list[bytes]:
    edges = [0, *sorted(place % len(body) for place in places), len(body)]
    return [piece for start, stop in itertools.pairwise(edges) if (piece := body[start:stop])]


@given(
    end=st.sampled_from(LINE_ENDS), named=st.booleans(), numbered=st.booleans(), places=st.sets(st.integers(1, 9999))
)
async def test_wherever_chunks_are_cut(end: bytes, named: bool, numbered: bool, places: set[int]) -> None:
    visit = await stopped()
    visit.upstream.stream_head()
    sent = events(end, named=named, numbered=numbered)
    body = b"".join(sent)
    visit.upstream.data(*cut(body, places))
    received = visit.client.received
    if visit.client.ending is None:  # it came in one piece, and passed before anybody could stop it
        assert received == body
        return
    assert visit.client.ending == "finish"
    assert visit.upstream.cancelled.is_set()
    ours = received[received.rfind(b"event: " if named else b"data: ") :]
    whole = received[: -len(ours)]
    assert body.startswith(whole)
    assert whole.endswith(end + end)
    said = parsed(ours)
    assert (said["type"], said["response"]) == (
        "response.incomplete",
        {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": None},
    )
    assert ours.startswith(b"event: response.incomplete" + end) is named
    numbers = [parsed(one)["sequence_number"] for one in sent if one in whole and b"sequence_number" in one]
    assert said.get("sequence_number") == (max(numbers) + 1 if numbered else None)
    record = visit.record
    assert (record.outcome, record.error_type) == (Outcome.INCOMPLETE, "output_ceiling")
    assert record.bytes_out == len(received)


async def test_what_is_under_way_when_the_ceiling_is_reached_is_passed_on_whole() -> None:
    visit = await stopped()
    visit.upstream.stream_head()
    sent = events()
    visit.upstream.data(*sent[:4], sent[4] + sent[5][:-10])
    assert visit.client.ending is None
    visit.upstream.data(sent[5][-10:] + sent[6])
    assert visit.client.received.startswith(b"".join(sent[:6]) + b"event: response.incomplete\n")
    assert visit.client.ending == "finish"


async def test_upstreams_own_end_in_the_next_event_wins() -> None:
    visit = await stopped()
    visit.upstream.stream_head()
    sent = events()
    usage = {"input_tokens": 3, "output_tokens": 11, "total_tokens": 14}
    done = sse(b"\n", True, "response.completed", response={**RESPONSE, "status": "completed", "usage": usage})
    visit.upstream.data(*sent[:4], sent[4] + done[:20])
    assert visit.client.ending is None
    visit.upstream.data(done[20:] + b"data: [DONE]\n\n")
    visit.upstream.end()
    assert visit.client.received == b"".join([*sent[:5], done, b"data: [DONE]\n\n"])
    assert (visit.record.outcome, visit.record.total_tokens) == (Outcome.COMPLETED, 14)


@pytest.mark.parametrize(
    "headers",
    [[(b"content-encoding", b"gzip")], [(b"content-length", b"100000")]],
    ids=["coded", "with a length"],
)
async def test_where_no_event_of_ours_fits_it_is_cut(headers: list[tuple[bytes, bytes]]) -> None:
    visit = await stopped()
    visit.upstream.stream_head(*headers)
    for one in events():
        visit.upstream.data(gzip.compress(one) if headers[0][0] == b"content-encoding" else one)
    assert visit.client.ending == "abort"
    assert (visit.record.outcome, visit.record.error_type) == (Outcome.INTERRUPTED, "output_ceiling")


async def test_an_event_without_an_end_is_cut_after_a_megabyte() -> None:
    visit = await stopped()
    visit.upstream.stream_head()
    sent = events()
    visit.upstream.data(*sent[:4], sent[4] + b'data: {"type":"response.output_text.delta","delta":"')
    for _ in range(1100):
        visit.upstream.data(b"x" * 1000)
    assert visit.client.ending == "abort"
    assert len(visit.client.received) < 1_200_000
    assert visit.record.outcome is Outcome.INTERRUPTED
