"""What does not pass: upstream's refusals, its pages for people, redirects, and whatever holds the key."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.domain.errors import (
    ApiError,
    UpstreamAuthFailed,
    UpstreamErrorReplaced,
    UpstreamProtocolError,
    UpstreamRedirected,
)
from app.domain.records import Outcome
from app.gateway.exchange.error_answers import MAX_ERROR_BYTES
from tests.gateway.house import COMPLETED, CREATED, DELTA, JSON_CALL, UPSTREAM_KEY, House, event

KEY = UPSTREAM_KEY.encode()
BODIES = Path(__file__).parents[1] / "wire" / "json"


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (401, UpstreamAuthFailed),
        (300, UpstreamRedirected),
        (302, UpstreamRedirected),
        (304, UpstreamRedirected),
        (600, UpstreamProtocolError),
        (999, UpstreamProtocolError),
    ],
)
def test_statuses_that_do_not_pass(house: House, status: int, refusal: type[ApiError]) -> None:
    visit = house.visit()
    visit.upstream.head(status, (b"location", b"https://elsewhere.example/"), (b"content-type", b"application/json"))
    assert visit.upstream.cancelled.is_set()
    visit.commit()
    error = visit.client.error
    assert type(error) is refusal
    assert str(status) in str(error)
    assert "elsewhere" not in str(error)
    record = visit.record
    assert (record.outcome, record.http_status, record.error_type) == (Outcome.UPSTREAM_ERROR, 502, refusal.error_type)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("openrouter-400-store.json", 400, "invalid_prompt"),
        ("openrouter-402.json", 402, "payment_required"),
        ("openai-429-quota.json", 429, "insufficient_quota"),
        ("openai-429-rate.json", 429, "rate_limit_exceeded"),
        ("openrouter-429-capacity.json", 429, "rate_limit_exceeded"),
        ("openrouter-529.json", 529, "provider_overloaded"),
    ],
)
@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_upstreams_own_errors_pass_verbatim(house: House, name: str, status: int, code: str, size: int) -> None:
    body = (BODIES / name).read_bytes()
    visit = house.visit()
    headers = [(b"retry-after", b"7"), (b"x-ratelimit-limit", b"1"), (b"content-length", b"%d" % len(body))]
    visit.upstream.json_head(status, *headers)
    visit.upstream.data(*(body[start : start + size] for start in range(0, len(body), size)))
    visit.upstream.end()
    assert not visit.client.headers
    visit.commit()
    assert (visit.client.status, visit.client.received, visit.client.ending) == (status, body, "finish")
    assert visit.client.headers[:4] == [(b"content-type", b"application/json"), *headers]
    record = visit.record
    assert (record.outcome, record.http_status, record.error_type) == (Outcome.UPSTREAM_ERROR, status, code)
    assert record.bytes_out == len(body)


@pytest.mark.parametrize(("status", "body"), [(400, b"no such thing"), (404, b""), (429, b"[]"), (422, b'"text"')])
def test_a_4xx_passes_without_being_json(house: House, status: int, body: bytes) -> None:
    visit = house.visit()
    visit.upstream.head(status, (b"content-type", b"text/plain"))
    visit.upstream.data(*([body] if body else []))
    visit.upstream.end()
    visit.commit()
    assert (visit.client.status, visit.client.received, visit.client.ending) == (status, body, "finish")
    assert visit.record.error_type == "upstream_error"


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (500, b"text/html", b"<html>Bad Gateway</html>"),
        (502, b"text/plain", b"bad gateway"),
        (503, b"application/json", b"<!DOCTYPE html>"),
        (500, b"application/json", b""),
        (500, b"application/json", b"[]"),
        (404, b"text/html; charset=utf-8", b"not here"),
        (404, b"text/plain", b"\n <HTML>"),
        (400, b"application/json", json.dumps({"error": {"message": f"key {UPSTREAM_KEY}"}}).encode()),
        (400, b"text/plain", b"x" * (MAX_ERROR_BYTES + 1)),
    ],
)
@pytest.mark.parametrize("size", [100_000, 5])
def test_pages_floods_and_leaks_are_replaced(house: House, status: int, kind: bytes, body: bytes, size: int) -> None:
    size = max(size, len(body) // 500)
    visit = house.visit()
    visit.upstream.head(status, (b"content-type", kind))
    visit.upstream.data(*(body[start : start + size] for start in range(0, len(body), size)))
    visit.upstream.end()
    visit.commit()
    error = visit.client.error
    assert isinstance(error, UpstreamErrorReplaced)
    assert str(status) in error.message
    assert UPSTREAM_KEY not in error.message
    record = visit.record
    assert (record.outcome, record.http_status, record.error_type) == (Outcome.UPSTREAM_ERROR, 502, "upstream_error")


def test_an_error_body_that_does_not_end_is_cut_off(house: House) -> None:
    visit = house.visit()
    visit.upstream.json_head(500)
    visit.upstream.data(*[b"x" * 65_536] * (MAX_ERROR_BYTES // 65_536))
    assert not visit.settled
    visit.upstream.data(b"x")
    assert visit.upstream.cancelled.is_set()
    assert visit.settled


@pytest.mark.parametrize("encode", [gzip.compress, bytes])  # some proxies decode it and leave the header
def test_a_coded_error_passes_as_it_came(house: House, encode: Callable[[bytes], bytes]) -> None:
    body = encode(b'{"error":{"code":"no","message":"No."}}')
    visit = house.visit()
    visit.upstream.json_head(400, (b"content-encoding", b"gzip"))
    visit.upstream.data(body)
    visit.upstream.end()
    visit.commit()
    assert visit.client.received == body
    assert (visit.record.error_type, visit.record.error_detail) == ("no", "No.")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(b'{"error":"' + KEY + b'"}', mtime=0)),
        (b"gzip", gzip.compress(b'{"error":"no"}', mtime=0)[:-9]),
        (b"gzip", b"rubbish"),
        (b"gzip", b'{"error":"' + KEY + b'"}'),
        (b"compress", b'{"error":"no"}'),
    ],
)
def test_a_coded_error_that_cannot_be_read_or_holds_the_key_does_not(house: House, coding: bytes, body: bytes) -> None:
    visit = house.visit()
    visit.upstream.json_head(400, (b"content-encoding", coding))
    visit.upstream.data(body)
    visit.upstream.end()
    visit.commit()
    assert isinstance(visit.client.error, UpstreamErrorReplaced)


def test_an_error_that_says_that_it_is_not_coded_passes(house: House) -> None:
    visit = house.visit()
    visit.upstream.json_head(400, (b"content-encoding", b"none"))
    visit.upstream.data(b'{"error":{"code":"no"}}')
    visit.upstream.end()
    visit.commit()
    assert visit.client.received == b'{"error":{"code":"no"}}'


def test_an_error_answer_that_breaks_is_a_fault(house: House) -> None:
    fault = UpstreamProtocolError("cut")
    visit = house.visit()
    visit.upstream.json_head(400)
    visit.upstream.data(b'{"error":')
    visit.upstream.broken(fault)
    visit.commit()
    assert visit.client.error is fault
    assert (visit.record.outcome, visit.record.http_status) == (Outcome.UPSTREAM_ERROR, 502)


@pytest.mark.parametrize("name", [b"x-echo", b"x-generation-id", b"x-request-id"])
def test_a_header_that_holds_the_key_crosses_nowhere(house: House, name: bytes) -> None:
    visit = house.visit()
    visit.upstream.stream_head((name, b"Bearer " + KEY))
    visit.upstream.data(COMPLETED)
    visit.commit()
    assert KEY not in b"".join(value for _, value in visit.client.headers)
    assert UPSTREAM_KEY not in repr(visit.record)


LEAK = event("response.output_text.delta", delta=f"your key is {UPSTREAM_KEY}.")


@pytest.mark.parametrize("size", [1, 2, 5, 24, 25, 26, 1000])
@pytest.mark.parametrize("at_once", [False, True])
def test_the_key_in_a_stream_breaks_it_off(size: int, at_once: bool) -> None:
    house = House(at_once=at_once)
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(CREATED)
    visit.upstream.data(*(LEAK[start : start + size] for start in range(0, len(LEAK), size)))
    visit.upstream.data(COMPLETED)
    assert visit.upstream.cancelled.is_set()
    visit.commit()
    assert visit.client.ending == "abort"
    assert KEY not in visit.client.received
    assert (CREATED + LEAK).startswith(visit.client.received)
    record = visit.record
    assert (record.outcome, record.http_status, record.error_type) == (Outcome.TRUNCATED, 200, "upstream_error")


@pytest.mark.parametrize("committed", [False, True])
def test_the_key_behind_the_terminal_event_breaks_off_too(house: House, committed: bool) -> None:
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(COMPLETED)
    if committed:
        visit.commit()
    visit.upstream.data(LEAK)
    visit.commit()
    assert visit.client.received == (COMPLETED if committed else b"")
    assert visit.client.ending == "abort"
    assert visit.record.outcome is Outcome.COMPLETED


def test_the_key_in_a_json_answer_breaks_it_off(house: House) -> None:
    visit = house.visit(JSON_CALL)
    visit.upstream.json_head()
    visit.upstream.data(b'{"text":"' + KEY[:9], KEY[9:] + b'"}')
    visit.commit()
    assert visit.client.received == b'{"text":"'
    assert visit.client.ending == "abort"


def test_upstreams_break_is_passed_on_as_one(house: House) -> None:
    visit = house.visit()
    visit.upstream.stream_head()
    visit.upstream.data(DELTA)
    visit.upstream.broken(UpstreamProtocolError("cut"))
    assert visit.client.ending is None
    visit.commit()
    assert visit.client.ending == "abort"
