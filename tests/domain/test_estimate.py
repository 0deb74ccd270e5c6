"""The estimate: never below what passed, never for what nobody bills, and steady."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.answer.meter import StreamMeter
from app.domain.money.estimate import (
    BYTES_PER_TOKEN,
    MOST_UNSEEN_TOKENS,
    TOKENS_PER_SECOND,
    delta_bytes,
    estimate,
    may_be_billed,
)
from app.domain.records import Outcome, Record
from tests.e2e.samples import wire

SIZES = st.integers(0, 10**9)
SECONDS = st.floats(0, 10**6)


def event(text: str, **more: object) -> bytes:
    body = {"type": "response.output_text.delta", "item_id": "msg_1", "delta": text, **more}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


@given(SIZES, SIZES, SECONDS)
def test_a_token_is_at_most_so_many_bytes(into: int, out: int, seconds: float) -> None:
    usage = estimate(into, out, seconds)
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    assert usage.input_tokens * BYTES_PER_TOKEN >= into > (usage.input_tokens - 1) * BYTES_PER_TOKEN
    assert usage.output_tokens * BYTES_PER_TOKEN >= out
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


@given(SIZES, SIZES, SIZES, SECONDS, SECONDS)
def test_more_of_anything_is_never_less(into: int, out: int, more: int, seconds: float, longer: float) -> None:
    low, high = estimate(into, out, min(seconds, longer)), estimate(into + more, out + more, max(seconds, longer))
    assert (low.input_tokens or 0) <= (high.input_tokens or 0)
    assert (low.output_tokens or 0) <= (high.output_tokens or 0)


@given(SECONDS)
def test_what_is_not_seen_is_counted_by_time_up_to_a_limit(seconds: float) -> None:
    assert estimate(1, 0, seconds).output_tokens == min(int(seconds * TOKENS_PER_SECOND), MOST_UNSEEN_TOKENS)


@given(st.text(max_size=200))
def test_the_text_of_a_delta_is_measured_in_full(text: str) -> None:
    """As JSON writes it, which is never shorter than it is."""
    written = len(json.dumps(text)) - 2
    assert delta_bytes(event(text)) == max(written, BYTES_PER_TOKEN)
    spaced = json.dumps({"delta": text, "sequence_number": 7}).encode()
    assert delta_bytes(b"data: " + spaced + b"\n\n") == max(written, BYTES_PER_TOKEN)


@given(st.text(max_size=50), st.integers(1, 300))
def test_the_first_delta_stands_for_those_that_come_with_it(text: str, times: int) -> None:
    assert delta_bytes(event(text) * times) == times * delta_bytes(event(text))


@given(st.text(min_size=1, max_size=60), st.data())
def test_a_delta_that_is_cut_off_counts_as_far_as_it_came(text: str, data: st.DataObject) -> None:
    chunk = event(text)
    start = chunk.index(b'"delta":"') + len(b'"delta":"')
    cut = data.draw(st.integers(start, len(chunk)))
    assert 0 < delta_bytes(chunk[:cut]) <= delta_bytes(chunk)


@pytest.mark.parametrize("chunk", [b"", b": comment\n\n", b'data: {"type":"response.created","response":{}}\n\n'])
def test_what_is_no_delta_is_no_output(chunk: bytes) -> None:
    assert delta_bytes(chunk) == 0


@given(st.binary(max_size=300))
def test_no_bytes_are_too_odd(chunk: bytes) -> None:
    assert delta_bytes(b'"delta":' + chunk) >= 0


@pytest.mark.parametrize("sample", ["01-openai-completed", "20-openrouter-current", "32-llamacpp"])
def test_an_estimate_of_a_real_stream_is_no_less_than_its_text(sample: str) -> None:
    body = wire(sample)
    text = sum(
        len(json.loads(line[5:])["delta"].encode())
        for line in body.split(b"\n")
        if line.startswith(b"data:") and b'.delta"' in line and isinstance(json.loads(line[5:]).get("delta"), str)
    )
    for events in (body.split(b"\n\n"), [body]):
        meter = StreamMeter()
        for piece in events:
            meter.feed(piece + b"\n\n" if events != [body] else piece)
        assert meter.reading.output_bytes > 0
        if events != [body]:
            assert meter.reading.output_bytes >= text


def record(outcome: Outcome, **fields: object) -> Record:
    made = Record("req_1", 0, "alice", "key", "upstream", "/responses", bytes_in=100, http_status=200)
    made.outcome = outcome
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("ended", "billed"),
    [
        (record(Outcome.CLIENT_CLOSED, time_to_first_byte_ms=3.0), True),
        (record(Outcome.TRUNCATED, time_to_first_byte_ms=3.0), True),
        (record(Outcome.INTERRUPTED, time_to_first_byte_ms=3.0), True),
        (record(Outcome.INTERRUPTED, http_status=503), True),  # we stopped before any answer
        (record(Outcome.INTERRUPTED, http_status=503, time_to_first_byte_ms=3.0), False),  # within an error
        (record(Outcome.TIMEOUT, time_to_first_byte_ms=3.0), True),
        (record(Outcome.TIMEOUT, http_status=504), False),  # it never began
        (record(Outcome.CLIENT_CLOSED, http_status=None), True),  # before any answer
        (record(Outcome.CLIENT_CLOSED, http_status=None, time_to_first_byte_ms=3.0), False),  # within an error
        (record(Outcome.CLIENT_CLOSED, bytes_in=0), False),  # never sent
        (record(Outcome.COMPLETED, time_to_first_byte_ms=3.0), False),
        (record(Outcome.INCOMPLETE, time_to_first_byte_ms=3.0), False),
        (record(Outcome.FAILED, time_to_first_byte_ms=3.0), False),
        (record(Outcome.REJECTED, http_status=400), False),
        (record(Outcome.UPSTREAM_ERROR, http_status=502), False),
        (record(Outcome.IN_PROGRESS), False),
    ],
)
def test_who_may_be_billed(ended: Record, billed: bool) -> None:
    assert may_be_billed(ended) is billed
