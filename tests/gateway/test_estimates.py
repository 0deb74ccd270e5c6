"""What the ledger is told of a call that told no usage: an estimate where upstream may bill one, and nothing else."""

from collections.abc import Callable

import pytest

from app.domain.disconnect import DisconnectPolicy
from app.domain.errors import UpstreamProtocolError, UpstreamTimedOut, UpstreamUnreachable
from app.domain.money.price_table import price_from_config
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.gateway.exchange.ending import Ending
from tests.gateway.house import CREATED, DELTA, JSON_CALL, STREAM_CALL, House, Visit, event, response

INTO = -(-len(STREAM_CALL) // 3)
NOTHING = (UsageSource.NONE, None, None, None, None, None)


def weighed(record: Record) -> tuple[object, ...]:
    return (
        record.usage_source,
        record.input_tokens,
        record.output_tokens,
        record.total_tokens,
        record.cost_nanousd,
        record.cost_source,
    )


def test_a_stream_that_is_left_is_estimated_by_what_passed(house: House) -> None:
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, *[event("response.output_text.delta", delta="some words here")] * 7)
    visit.exchange.leave()
    out = -(-7 * len("some words here") // 3)
    assert weighed(visit.record) == (UsageSource.ESTIMATED, INTO, out, INTO + out, None, None)
    assert visit.record.cached_input_tokens is visit.record.reasoning_tokens is None


def test_an_estimate_is_priced_and_says_so(house: House) -> None:
    house.prices["m-served"] = price_from_config({"input": "1", "output": "2"})
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA)
    visit.upstream.broken(UpstreamProtocolError("broke off"))
    record = visit.record
    assert (record.cost_source, record.cost_nanousd) == (CostSource.ESTIMATED, INTO * 1_000 + 2 * 2_000)
    assert record.price == house.prices["m-served"].as_json()


@pytest.mark.parametrize(("seconds", "out"), [(0.5, 50), (12, 1200), (600, 32_768)])
def test_thought_that_is_not_shown_is_counted_by_time(house: House, seconds: float, out: int) -> None:
    house.put_terms(on_disconnect=DisconnectPolicy.parse("cancel"))
    visit = house.visit(JSON_CALL)
    house.time.advance(seconds)
    visit.exchange.leave()
    assert (visit.record.usage_source, visit.record.output_tokens) == (UsageSource.ESTIMATED, out)


def test_a_document_that_is_cut_counts_its_bytes(house: House) -> None:
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head(200, (b"content-length", b"4000"))
    visit.upstream.data(b'{"output":"' + b"x" * 1000)
    visit.upstream.broken(UpstreamProtocolError("broke off"))
    assert (visit.record.usage_source, visit.record.output_tokens) == (UsageSource.ESTIMATED, -(-1011 // 3))


def never_answer(visit: Visit) -> None:
    visit.upstream.broken(UpstreamTimedOut("silence"))


def fall_silent(visit: Visit) -> None:
    visit.upstream.stream_head()
    visit.upstream.broken(UpstreamTimedOut("silence"))


def stopped_before_an_answer(visit: Visit) -> None:
    visit.exchange.end_by(Ending.SERVER_STOPPED)


def stopped_in_an_answer(visit: Visit) -> None:
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA)
    visit.exchange.end_by(Ending.SERVER_STOPPED)


def stopped_in_a_refusal(visit: Visit) -> None:
    visit.upstream.json_head(429)
    visit.upstream.data(b'{"error":')
    visit.exchange.end_by(Ending.SERVER_STOPPED)


def not_reached(visit: Visit) -> None:
    visit.upstream.broken(UpstreamUnreachable("refused"))


def refused(visit: Visit) -> None:
    visit.upstream.json_head(429)
    visit.upstream.data(b'{"error":{"message":"slow down"}}')
    visit.upstream.end()


def left_in_a_refusal(visit: Visit) -> None:
    visit.upstream.json_head(429)
    visit.upstream.data(b'{"error":')
    visit.exchange.leave()


def failed_at_once(visit: Visit) -> None:
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, event("error", code="server_error"))
    visit.upstream.end()


def failed_half_way(visit: Visit) -> None:
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA, event("error", code="server_error"))
    visit.upstream.end()


def ended_without_a_usage(visit: Visit) -> None:
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA, event("response.completed", response=response(usage=None)))
    visit.upstream.end()


@pytest.mark.parametrize(
    "end",
    [
        not_reached,
        never_answer,
        refused,
        left_in_a_refusal,
        stopped_in_a_refusal,
        failed_at_once,
        failed_half_way,
        ended_without_a_usage,
    ],
)
def test_what_upstream_did_not_work_on_or_ended_itself_is_not_estimated(
    house: House, end: Callable[[Visit], None]
) -> None:
    visit = house.visit()
    house.time.advance(10)
    end(visit)
    assert weighed(visit.record) == NOTHING


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (fall_silent, Outcome.TIMEOUT),
        (stopped_before_an_answer, Outcome.INTERRUPTED),
        (stopped_in_an_answer, Outcome.INTERRUPTED),
    ],
)
def test_what_it_may_have_worked_on_is(house: House, end: Callable[[Visit], None], outcome: Outcome) -> None:
    visit = house.visit()
    end(visit)
    assert (visit.record.outcome, visit.record.usage_source) == (outcome, UsageSource.ESTIMATED)


def test_what_was_never_sent_is_not_estimated(house: House) -> None:
    refused_by_us, left = house.visit(b"no json"), house.arrive()
    left.exchange.leave()
    assert weighed(refused_by_us.record) == weighed(left.record) == NOTHING
