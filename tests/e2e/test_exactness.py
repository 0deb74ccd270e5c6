"""Promise P1, through the whole program: bytes out equal bytes in, wherever they are cut, and nothing is held back."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.e2e.client import ASK, ASK_STREAM, Answer
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, Script, document, head, stream
from tests.e2e.samples import SAMPLES, WIRE, Sample, wire
from tests.record_fields import TOKENS

TERMINAL = b'data: {"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}'


def call(gateway: Gateway, replay: ReplayUpstream, script: Script) -> Answer:
    """Call for the script, telling it at each step how much of the body has come through."""
    with gateway.calling(ASK_STREAM, replay.play(script)) as open_call:
        while open_call.read():
            script.arrived(len(open_call.answer.body))
        return open_call.answer


def check_record(gateway: Gateway, answer: Answer, sample: Sample) -> None:
    """The record is there the moment the client has the end; no waiting."""
    record = gateway.record(answer.request_id)
    assert record["outcome"] == sample.outcome
    assert record["usage_source"] == sample.usage_source
    if sample.cut:
        assert record["total_tokens"] > 0
    else:
        assert {name: record[name] for name in TOKENS} == sample.tokens
    # written at the terminal event's last brace: a comment or [DONE] that came later is passed on, not counted
    assert answer.body.rindex(b"}") < record["bytes_out"] <= len(answer.body)
    if sample.cost_usd is not None:
        assert (record["cost_usd"], record["cost_source"]) == (sample.cost_usd, "reported")


def test_the_table_is_the_one_of_the_samples() -> None:
    readme = (WIRE / "README.md").read_text()
    rows = re.findall(r"^\| (\S+)\.sse \|(?:[^|]*\|)? ([\d-]+(?:/[\d-]+){5})[ ,;|]", readme, re.MULTILINE)
    assert len(rows) > 12
    assert {name: SAMPLES[name].usage for name, _ in rows} == dict(rows)
    assert {path.stem for path in WIRE.glob("*.sse")} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "to-the-close"])
def test_a_sample_in_one_piece(gateway: Gateway, replay: ReplayUpstream, name: str, chunked: bool) -> None:
    body = wire(name)
    answer = call(gateway, replay, stream(body, chunked=chunked))
    assert (answer.status, answer.body, answer.whole) == (200, body, True)
    check_record(gateway, answer, SAMPLES[name])


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_byte_by_byte(gateway: Gateway, replay: ReplayUpstream, name: str) -> None:
    body = wire(name)
    answer = call(gateway, replay, stream(body, range(len(body))))
    assert answer.body == body
    check_record(gateway, answer, SAMPLES[name])


@given(name=st.sampled_from(sorted(SAMPLES)), data=st.data())
@settings(max_examples=40)
def test_each_piece_comes_through_before_the_next_is_sent(
    gateway: Gateway, replay: ReplayUpstream, name: str, data: st.DataObject
) -> None:
    body = wire(name)
    cuts = data.draw(st.lists(st.integers(1, len(body) - 1), max_size=12))
    answer = call(gateway, replay, stream(body, cuts, lockstep=True))
    assert answer.body == body
    check_record(gateway, answer, SAMPLES[name])


LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
DATA = st.one_of(TEXT.map(str.encode), st.binary(max_size=12).map(lambda b: re.sub(rb"[\r\n]", b"", b)))
LINES = st.one_of(
    DATA.map(b"data: %s".__mod__),
    DATA.map(b": %s".__mod__),
    TEXT.map(lambda text: b"event: " + text.encode()),
    st.sampled_from([b"", b"data", b"id: 7", b"retry: 10", b'data: {"type":"response.completed"', b"\xef\xbb\xbf"]),
)
EVENTS = st.lists(st.tuples(LINES, LINE_ENDS).map(b"".join), max_size=8).map(b"".join)


@given(before=EVENTS, end=LINE_ENDS, after=EVENTS)
@example(before=b"\xef\xbb\xbf", end=b"\r", after=b"data: [DONE]\n\n")
@settings(max_examples=25)
def test_a_made_stream_cut_at_every_byte(
    gateway: Gateway, replay: ReplayUpstream, before: bytes, end: bytes, after: bytes
) -> None:
    body = before + end * 2 + TERMINAL + end * 2 + after
    answer = call(gateway, replay, stream(body, range(len(body)), lockstep=True))
    assert answer.body == body
    record = gateway.record(answer.request_id)
    assert (record["outcome"], record["input_tokens"], record["output_tokens"]) == ("completed", 3, 4)


@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 50_000, b"not a stream at all", b"data: " + b"x" * 3_000_000])
def test_what_is_no_stream_passes_too(gateway: Gateway, replay: ReplayUpstream, body: bytes) -> None:
    answer = call(gateway, replay, stream(body, range(0, len(body), 70_001)))
    assert (answer.body, answer.whole) == (body, True)
    assert gateway.record(answer.request_id)["outcome"] == "truncated"


@pytest.mark.parametrize("path", sorted((WIRE / "json").glob("*.json")), ids=lambda path: path.stem)
def test_a_document_is_what_upstream_sent(gateway: Gateway, replay: ReplayUpstream, path: object) -> None:
    body = path.read_bytes()  # type: ignore[attr-defined]
    answer = gateway.post(ASK, replay.play(document(body)))
    assert (answer.status, answer.body) == (200, body)
    assert answer.value("content-length") == str(len(body))


def test_a_document_without_a_length(gateway: Gateway, replay: ReplayUpstream) -> None:
    body = (WIRE / "json/openai-compact-200.json").read_bytes()
    script = Script(head([("Content-Type", "application/json")]), [body[:100], body[100:]], "close")
    answer = gateway.post(ASK, replay.play(script))
    assert (answer.body, answer.whole) == (body, True)
    record = gateway.record(answer.request_id)
    assert [record[name] for name in TOKENS] == [42897, 40960, 0, 1200, 512, 44097]


def test_the_request_arrives_as_it_was_sent(gateway: Gateway, replay: ReplayUpstream) -> None:
    odd = '{ "model":"m",\n\t"input" : "\\u00e9é\\/ 1e2", "x": 1.0e+02, "n": 12345678901234567890 }'.encode()
    script = document(b"{}")
    assert gateway.post(odd, replay.play(script)).status == 200
    (seen,) = script.seen
    assert (seen.line, seen.body) == ("POST /api/v1/responses HTTP/1.1", odd)
