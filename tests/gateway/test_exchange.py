"""One exchange, case by case: what the client gets, what the ledger gets, and when."""

import json
from collections.abc import Callable

import pytest

from app.domain.disconnect import DisconnectPolicy
from app.domain.errors import Draining, UpstreamProtocolError, UpstreamTimedOut, UpstreamUnreachable
from app.domain.identity.kept_ids import kept_id
from app.domain.records import Outcome, UsageSource
from app.gateway.exchange.ending import Ending
from tests.gateway.house import (
    COMPLETED,
    CREATED,
    DELTA,
    DONE,
    JSON_CALL,
    House,
    Visit,
    event,
    response,
    usage,
)

BREAK = UpstreamProtocolError("broke off")
TIMEOUT = UpstreamTimedOut("silence")


def test_the_terminal_event_and_what_follows_wait_for_the_record(house: House) -> None:
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA, COMPLETED, DONE)
    visit.upstream.end()
    assert visit.client.chunks == [CREATED, DELTA]
    assert visit.client.ending is None
    assert visit.record.outcome is Outcome.COMPLETED
    visit.commit()
    assert visit.client.received == CREATED + DELTA + COMPLETED + DONE
    assert visit.client.ending == "finish"


def test_after_the_commit_the_rest_passes_as_it_comes(house: House) -> None:
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(COMPLETED)
    visit.commit()
    assert visit.client.chunks == [COMPLETED]
    visit.upstream.data(DONE)
    assert visit.client.chunks == [COMPLETED, DONE]
    visit.upstream.end()
    assert visit.client.ending == "finish"


def test_a_record_says_who_what_when_and_how_long(house: House) -> None:
    visit = house.visit()
    house.time.advance(0.25)
    visit.upstream.head(200, (b"x-generation-id", b"gen-1"), (b"content-type", b"text/event-stream"), retry_count=1)
    house.time.advance(1)
    visit.upstream.data(CREATED + COMPLETED)
    record = visit.record
    assert (record.client, record.key_id, record.upstream) == ("alice", "key0123456", "hand")
    assert (record.method, record.path, record.model_requested, record.stream) == (
        "POST",
        "/v1/responses",
        "m-asked",
        True,
    )
    assert (record.model_served, record.response_id, record.generation_id) == ("m-served", "resp_1", "gen-1")
    assert (record.http_status, record.retry_count, record.error_type) == (200, 1, None)
    assert (record.time_to_first_byte_ms, record.duration_ms) == (250.0, 1250.0)
    assert record.finished_at == record.started_at + 1_250_000
    assert record.bytes_in == len(visit.upstream.request.body)
    assert record.bytes_out == len(CREATED + COMPLETED)
    assert (record.input_tokens, record.output_tokens, record.total_tokens) == (12, 45, 57)
    assert record.usage_source is UsageSource.REPORTED
    assert house.observer.overheads == [0.0]


def finish(visit: Visit) -> None:
    visit.upstream.end()


def break_off(visit: Visit) -> None:
    visit.upstream.broken(BREAK)


def fall_silent(visit: Visit) -> None:
    visit.upstream.broken(TIMEOUT)


def leave(visit: Visit) -> None:
    visit.exchange.leave()


def interrupt(visit: Visit) -> None:
    visit.exchange.end_by(Ending.DOOR_FAILED)


def stop(visit: Visit) -> None:
    visit.house.gateway.stop()


INCOMPLETE = event("response.incomplete", response=response("incomplete"))
FAILED = event("response.failed", response=response("failed", usage=None, error={"code": "server_error"}))
FAILED_WEIGHED = event("response.failed", response=response("failed", error={"code": "rate_limit_exceeded"}))
OLD_DONE = event("response.done", response={"id": "resp_1", "usage": usage()})
ERROR = event("error", code="rate_limit_exceeded", message="slow down")
CASES: list[tuple[list[bytes], Callable[[Visit], None], Outcome, str | None, int | None]] = [
    ([CREATED, COMPLETED], finish, Outcome.COMPLETED, None, 57),
    ([CREATED, INCOMPLETE], finish, Outcome.INCOMPLETE, None, 57),
    ([CREATED, FAILED], finish, Outcome.FAILED, "server_error", None),
    ([CREATED, FAILED_WEIGHED], finish, Outcome.FAILED, "rate_limit_exceeded", 57),
    ([CREATED, OLD_DONE], finish, Outcome.COMPLETED, None, 57),
    ([ERROR, FAILED], finish, Outcome.FAILED, "server_error", None),
    ([CREATED, ERROR], finish, Outcome.FAILED, "rate_limit_exceeded", None),
    ([CREATED, ERROR], break_off, Outcome.FAILED, "rate_limit_exceeded", None),
    ([CREATED, DELTA], finish, Outcome.TRUNCATED, None, None),
    ([], finish, Outcome.TRUNCATED, None, None),
    ([CREATED, DELTA], break_off, Outcome.TRUNCATED, "upstream_protocol_error", None),
    ([CREATED, DELTA], fall_silent, Outcome.TIMEOUT, "upstream_timeout", None),
    ([CREATED, COMPLETED], break_off, Outcome.COMPLETED, None, 57),
    ([CREATED, COMPLETED, COMPLETED], finish, Outcome.COMPLETED, None, 57),
    ([CREATED, DELTA], leave, Outcome.CLIENT_CLOSED, None, None),
    ([CREATED, COMPLETED], leave, Outcome.COMPLETED, None, 57),
    ([CREATED, ERROR], leave, Outcome.FAILED, "rate_limit_exceeded", None),
    ([CREATED, DELTA], interrupt, Outcome.INTERRUPTED, None, None),
    ([CREATED, DELTA], stop, Outcome.INTERRUPTED, "draining", None),
    ([CREATED, COMPLETED], stop, Outcome.COMPLETED, None, 57),
]


@pytest.mark.parametrize(("chunks", "end", "outcome", "error_type", "total"), CASES)
@pytest.mark.parametrize("at_once", [False, True])
def test_how_a_stream_ends(
    chunks: list[bytes],
    end: Callable[[Visit], None],
    outcome: Outcome,
    error_type: str | None,
    total: int | None,
    at_once: bool,
) -> None:
    house = House(at_once=at_once)
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(*chunks)
    end(visit)
    visit.commit()
    record = visit.record
    reported = record.total_tokens if record.usage_source is UsageSource.REPORTED else None
    assert (record.outcome, record.error_type, reported) == (outcome, error_type, total)
    assert record.http_status == 200
    endings: dict[Callable[[Visit], None], str | None]
    endings = {finish: "finish", break_off: "abort", fall_silent: "abort", leave: None, interrupt: None}
    endings[stop] = None if outcome is Outcome.COMPLETED else "abort"  # an answer that is being committed goes on
    assert visit.client.ending == endings[end]
    if end not in (leave, interrupt):
        assert visit.client.received == b"".join(chunks)
    assert house.gateway.in_flight == house.observer.streams == 0


@pytest.mark.parametrize(
    ("fault", "status", "outcome"),
    [
        (UpstreamUnreachable("refused"), 502, Outcome.UPSTREAM_ERROR),
        (BREAK, 502, Outcome.UPSTREAM_ERROR),
        (TIMEOUT, 504, Outcome.TIMEOUT),
    ],
)
def test_no_answer_is_an_error_of_ours(house: House, fault: UpstreamTimedOut, status: int, outcome: Outcome) -> None:
    visit = house.visit()
    visit.upstream.broken(fault, retry_count=1)
    assert visit.client.ending is None
    visit.commit()
    assert visit.client.error is fault
    record = visit.record
    assert (record.outcome, record.http_status, record.error_type) == (outcome, status, fault.error_type)
    assert (record.retry_count, record.time_to_first_byte_ms) == (1, None)


@pytest.mark.parametrize("collecting", [False, True])
def test_who_has_no_answer_when_the_server_stops_is_told(house: House, *, collecting: bool) -> None:
    visit = house.visit()
    if collecting:
        visit.upstream.json_head(429)
        visit.upstream.data(b'{"error":')
    house.gateway.stop()
    assert visit.upstream.cancelled.is_set()
    assert visit.client.error is None
    visit.commit()
    assert isinstance(visit.client.error, Draining)
    record = visit.record
    assert (record.outcome, record.http_status, record.error_type) == (Outcome.INTERRUPTED, 503, "draining")


@pytest.mark.parametrize("stage", ["unsent", "waiting", "collecting", "streaming", "committing", "settled", "over"])
@pytest.mark.parametrize("goodbye", [leave, interrupt])
def test_whoever_goes_at_whatever_stage_takes_upstream_along(
    house: House, stage: str, goodbye: Callable[[Visit], None]
) -> None:
    house.put_terms(on_disconnect=DisconnectPolicy.parse("cancel"))
    visit = house.arrive() if stage == "unsent" else house.visit()
    if stage == "collecting":
        visit.upstream.json_head(400)
        visit.upstream.data(b'{"error":')
    elif stage not in ("unsent", "waiting"):
        visit.upstream.stream_head()
        visit.upstream.data(CREATED if stage == "streaming" else COMPLETED)
    if stage in ("settled", "over"):
        visit.commit()
    if stage == "over":
        visit.upstream.end()
    seen = visit.client.received
    goodbye(visit)
    visit.commit()
    assert visit.settled
    assert visit.client.received == seen
    if stage != "unsent":
        assert visit.upstream.over
        assert visit.upstream.cancelled.is_set() == (stage != "over")
    finished = stage in ("committing", "settled", "over")
    gone = Outcome.CLIENT_CLOSED if goodbye is leave else Outcome.INTERRUPTED
    assert visit.record.outcome is (Outcome.COMPLETED if finished else gone)
    assert visit.record.http_status == (None if stage in ("unsent", "waiting", "collecting") else 200)
    assert house.gateway.in_flight == 0


BODY = json.dumps(response(output=[{"text": "x" * 2000}], error=None)).encode()


@pytest.mark.parametrize("size", [1, 700, 10_000])
@pytest.mark.parametrize("length", [False, True])
def test_the_close_of_a_json_body_waits_for_the_record(house: House, size: int, length: bool) -> None:
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head(200, *([(b"content-length", b"%d" % len(BODY))] if length else []))
    pieces = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    visit.upstream.data(*pieces)
    visit.upstream.end()
    assert visit.client.chunks == pieces[:-1]
    assert (visit.record.outcome, visit.record.total_tokens) == (Outcome.COMPLETED, 57)
    assert visit.record.bytes_out == len(BODY)
    visit.commit()
    assert visit.client.received == BODY
    assert visit.client.ending == "finish"


def test_a_big_json_body_is_weighed_too(house: House) -> None:
    body = json.dumps({"image": "A" * 3_000_000, **response()}).encode()
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head()
    visit.upstream.data(*(body[start : start + 65_536] for start in range(0, len(body), 65_536)))
    assert visit.client.received == body[: len(body) // 65_536 * 65_536]
    visit.commit()
    assert visit.client.received == body
    assert visit.record.total_tokens == 57


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b'{"id":"r","status":"completed","usage":null}', Outcome.COMPLETED),
        (b'{"object":"response.input_tokens","input_tokens":9}', Outcome.COMPLETED),
        (b'{"error":{"code":"server_error"}}', Outcome.FAILED),
        (b"<html>", Outcome.FAILED),
        (b"", Outcome.FAILED),
    ],
)
def test_a_json_body_without_usage(house: House, body: bytes, outcome: Outcome) -> None:
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head()
    visit.upstream.data(*([body] if body else []))
    visit.upstream.end()
    visit.commit()
    assert visit.client.received == body
    assert visit.client.ending == "finish"
    record = visit.record
    assert (record.outcome, record.usage_source, record.total_tokens) == (outcome, UsageSource.NONE, None)
    assert (record.error_type is None) == (outcome is Outcome.COMPLETED)


def test_a_json_body_that_ends_too_early_is_truncated(house: House) -> None:
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head()
    visit.upstream.data(b'{"cut')
    visit.upstream.end()
    visit.commit()
    assert (visit.client.received, visit.client.ending) == (b'{"cut', "finish")
    assert visit.record.outcome is Outcome.TRUNCATED
    assert visit.record.error_detail == "Upstream's answer ended before its JSON did."


@pytest.mark.parametrize(
    ("coding", "body", "failures"),
    [(b"br", b"\x00\x01\x02 not for us", 1), (b"identity", b"no document", 1), (b"identity", b"  ", 0)],
)
def test_a_body_that_cannot_be_read_ends_with_its_length_and_that_waits_too(
    house: House, coding: bytes, body: bytes, failures: int
) -> None:
    """With a Content-Length the last byte is the end that a client sees: P2 holds for it whatever the meter knows."""
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head(200, (b"content-length", b"%d" % len(body)), (b"content-encoding", coding))
    visit.upstream.data(body[:1], body[1:])
    assert visit.client.received == body[:1]
    visit.upstream.end()
    visit.commit()
    assert visit.client.received == body
    assert visit.client.ending == "finish"
    assert house.observer.meter_failures == failures


def test_a_stream_cut_at_its_announced_length_is_truncated(house: House) -> None:
    visit = house.visit()
    visit.upstream.stream_head((b"content-length", b"%d" % len(CREATED + DELTA)))
    visit.upstream.data(CREATED, DELTA)
    assert visit.client.chunks == [CREATED]
    visit.upstream.end()
    visit.commit()
    assert visit.client.chunks == [CREATED, DELTA]
    assert visit.record.outcome is Outcome.TRUNCATED


@pytest.mark.parametrize("announced", [b"", b"-1", b"x", b"\xb2", b"9" * 5000])
def test_an_odd_length_hurts_nobody(house: House, announced: bytes) -> None:
    visit = house.visit()
    visit.upstream.stream_head((b"content-length", announced))
    visit.upstream.data(COMPLETED)
    visit.commit()
    assert visit.client.received == COMPLETED


def test_a_coding_that_is_not_read_passes_whole_and_is_not_called_broken(house: House) -> None:
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head(200, (b"content-encoding", b"br"))
    visit.upstream.data(b"\x0b\x02\x80", b"\x00")
    visit.upstream.end()
    visit.commit()
    assert visit.client.received == b"\x0b\x02\x80\x00"
    assert (visit.record.outcome, visit.record.usage_source) == (Outcome.COMPLETED, UsageSource.NONE)
    assert house.observer.meter_failures == 1


@pytest.mark.parametrize("coding", [b"none", b"", b" Identity "])
def test_what_says_that_it_is_not_coded_is_read(house: House, coding: bytes) -> None:
    visit = house.visit()
    visit.upstream.stream_head((b"content-encoding", coding))
    visit.upstream.data(CREATED, DELTA, COMPLETED)
    visit.upstream.end()
    visit.commit()
    assert visit.client.received == CREATED + DELTA + COMPLETED
    assert (visit.record.outcome, visit.record.usage_source) == (Outcome.COMPLETED, UsageSource.REPORTED)


def test_streams_get_headers_against_buffering_where_upstream_set_none(house: House) -> None:
    visit = house.visit()
    visit.upstream.stream_head((b"cache-control", b"no-store"))
    assert visit.client.headers == [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-store"),
        (b"x-weighbridge-request-id", visit.exchange.record.request_id.encode()),
        (b"x-request-id", visit.exchange.record.request_id.encode()),
        (b"x-accel-buffering", b"no"),
    ]


def test_upstreams_request_id_is_the_clients(house: House) -> None:
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head(200, (b"x-request-id", b"theirs"))
    record = visit.exchange.record
    ours = (b"x-weighbridge-request-id", record.request_id.encode())
    assert visit.client.headers == [(b"content-type", b"application/json"), (b"x-request-id", b"theirs"), ours]
    assert record.upstream_request_id == "theirs"


def test_long_names_do_not_reach_the_ledger(house: House) -> None:
    refused = house.visit(b'{"model":"' + b"m" * 10_000 + b'","stream":true}')
    assert (refused.record.outcome, refused.record.model_requested) == (Outcome.REJECTED, None)
    visit = house.visit(b'{"model":"' + b"m" * 256 + b'","stream":true}')
    visit.upstream.stream_head((b"x-generation-id", b"g" * 10_000))
    visit.upstream.data(event("response.completed", response={**response(), "model": "m" * 10_000}))
    record = visit.record
    assert record.model_served is None
    assert record.generation_id == kept_id("g" * 10_000)


def test_retries_are_counted_from_the_head_or_the_fault(house: House) -> None:
    visit = house.visit()
    visit.upstream.head(200, retry_count=1)
    visit.upstream.data(COMPLETED)
    settled = visit.record
    visit.upstream.broken(BREAK, retry_count=0)
    assert settled.retry_count == 1
    assert visit.exchange.record == settled, "a settled record does not change"


FLOOD = b": " + b"x" * 300_000 + b"\n\n"


def test_much_that_is_held_makes_upstream_wait_for_the_commit(house: House) -> None:
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(COMPLETED)
    assert not visit.upstream.paused.is_set()
    visit.upstream.data(FLOOD)
    assert visit.upstream.paused.is_set()
    visit.exchange.buffer.resume()
    assert visit.upstream.paused.is_set(), "the client's having caught up does not make room"
    visit.commit()
    assert not visit.upstream.paused.is_set()


@pytest.mark.parametrize("earlier", [False, True])
def test_the_commit_does_not_wake_upstream_for_a_client_that_is_slow(house: House, earlier: bool) -> None:
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(COMPLETED, FLOOD)
    if earlier:
        visit.exchange.buffer.pause()
    else:  # slow because of what the commit lets go, as a door with a small buffer says it
        visit.client.on_body = visit.exchange.buffer.pause
    visit.commit()
    assert visit.upstream.paused.is_set()
    visit.exchange.buffer.resume()
    assert not visit.upstream.paused.is_set()
