"""A client that leaves: upstream is cancelled, unless its policy or a nearly finished answer says to read on."""

import asyncio
from functools import partial

import pytest

from app.domain.disconnect import (
    DEFAULT_POLICY,
    DRAIN_SECONDS,
    GRACE_SECONDS,
    UNSTREAMED_SECONDS,
    DisconnectPolicy,
    nearly_done,
)
from app.domain.records import Outcome
from tests.gateway.house import House, Visit

HEAD = [(b"content-type", b"text/event-stream")]
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hi"}\n\n'
ITEM_DONE = b'data: {"type":"response.output_item.done","item":{"type":"function_call","status":"completed"}}\n\n'
COMPLETED = (
    b'data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","model":"m",'
    b'"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}}\n\n'
)


def passing(policy: str, *chunks: bytes) -> Visit:
    """A call whose answer has begun."""
    house = House(at_once=True)
    house.put_terms(on_disconnect=DisconnectPolicy.parse(policy))
    visit = house.visit()
    visit.upstream.listener.head(200, HEAD, 0)
    for chunk in chunks:
        visit.upstream.listener.data(chunk)
    return visit


@pytest.mark.parametrize("text", ["auto", "cancel", "drain", "drain:5", "drain:0"])
def test_a_policy_reads_as_it_is_written(text: str) -> None:
    assert str(DisconnectPolicy.parse(text)) == text


@pytest.mark.parametrize("text", ["", "stay", "drain:", "drain:-1", "drain:1.5", "drain:123456", "cancel:2"])
def test_other_policies_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a policy"):
        DisconnectPolicy.parse(text)


def test_how_long_upstream_is_read_on() -> None:
    auto, cancel, drain = map(DisconnectPolicy.parse, ("auto", "cancel", "drain"))
    for policy in (auto, cancel):
        in_stream = partial(policy.wait_seconds, stream=True, answering=True)
        assert in_stream(last_chunk=b"") == 0
        assert in_stream(last_chunk=DELTA) == 0
        assert in_stream(last_chunk=DELTA + ITEM_DONE) == GRACE_SECONDS
        assert in_stream(last_chunk=ITEM_DONE + DELTA) == 0
    assert auto == DEFAULT_POLICY
    assert auto.wait_seconds(stream=True, answering=False) == GRACE_SECONDS
    assert cancel.wait_seconds(stream=True, answering=False) == 0
    assert auto.wait_seconds(stream=False, answering=False) == UNSTREAMED_SECONDS
    assert cancel.wait_seconds(stream=False, answering=False) == 0
    assert drain.wait_seconds(stream=True, answering=False) == DRAIN_SECONDS
    assert DisconnectPolicy.parse("drain:7").wait_seconds(stream=True, answering=True, last_chunk=DELTA) == 7


def test_model_text_cannot_pretend_that_an_item_is_done() -> None:
    assert not nearly_done(rb'data: {"type":"response.output_text.delta","delta":"\"response.output_item.done\""}')


async def test_in_mid_stream_upstream_is_cancelled_at_once() -> None:
    visit = passing("cancel", DELTA)
    visit.exchange.leave()
    assert visit.upstream.cancelled.is_set()
    assert visit.exchange.record.outcome is Outcome.CLIENT_CLOSED


async def test_behind_a_finished_item_the_terminal_event_is_still_weighed() -> None:
    visit = passing("cancel", DELTA, ITEM_DONE)
    visit.exchange.leave()
    assert not visit.upstream.cancelled.is_set()
    assert visit.exchange.record.outcome is Outcome.IN_PROGRESS
    visit.upstream.listener.data(COMPLETED)
    assert (visit.exchange.record.outcome, visit.exchange.record.total_tokens) == (Outcome.COMPLETED, 7)
    assert COMPLETED not in b"".join(visit.client.chunks)


async def test_a_drained_stream_without_an_end_is_closed_when_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = passing("drain:3", DELTA)
    timers: list[tuple[float, object]] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noted(delay: float, callback: object, *arguments: object) -> asyncio.TimerHandle:
        timers.append((delay, (callback, arguments)))
        return call_later(0, callback, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", noted, raising=False)
    visit.exchange.leave()
    assert [delay for delay, _ in timers] == [3]
    await asyncio.sleep(0.01)
    assert visit.upstream.cancelled.is_set()
    assert visit.exchange.record.outcome is Outcome.CLIENT_CLOSED


async def test_an_upstream_that_breaks_while_drained_is_still_the_clients_leaving() -> None:
    visit = passing("drain", DELTA)
    visit.exchange.leave()
    visit.upstream.listener.end()
    assert visit.exchange.record.outcome is Outcome.CLIENT_CLOSED


async def test_a_drained_call_is_in_flight_until_it_is_weighed_and_interrupted_at_the_end() -> None:
    visit = passing("drain", DELTA)
    visit.exchange.leave()
    assert visit.house.gateway.in_flight == 1
    await visit.house.gateway.close(0)
    assert visit.house.gateway.in_flight == 0
    assert visit.exchange.record.outcome is Outcome.INTERRUPTED
    assert visit.upstream.cancelled.is_set()
