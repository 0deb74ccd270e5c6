"""The meter on the wire samples, the decoys and the bodies: what it reads, and the byte at which it says so."""

import json
import re
from pathlib import Path

import orjson
import pytest

from app.domain.answer.meter import AnswerReading, BodyMeter, Meter, StreamMeter
from app.domain.answer.usage import Usage

WIRE = Path(__file__).parents[1] / "wire"
FRAMED = Usage(5, 0, None, 2, 0, 7)
LEGACY = Usage(12, None, None, 45, None, 57)
OPENAI = Usage(1523, 1024, 256, 87, 64, 1610)
BACKGROUND = Usage(77, 0, 0, 1203, 1152, 1280)
EXPECTED = {
    "01-openai-completed": ("completed", OPENAI),
    "02-openresponses-completed-done": ("completed", OPENAI),
    "03-openai-toolcalls": ("completed", Usage(412, 0, 0, 58, 0, 470)),
    "04-openai-incomplete": ("incomplete", Usage(301, 0, 0, 16, 10, 317)),
    "05-openai-error-then-failed": ("failed", None),
    "06-openai-error-flat-only": (None, None),
    "07-openai-failed-with-usage": ("failed", Usage(900, 512, 0, 21, 0, 921)),
    "08-openai-background-queued": ("completed", BACKGROUND),
    "09-openai-background-resume-after-5": ("completed", BACKGROUND),
    "20-openrouter-current": ("completed", Usage(2310, 2048, 0, 141, 96, 2451, 1_234_560)),
    "21-openrouter-named-events": ("completed", Usage(2310, 2048, 0, 141, 96, 2451, 400_000)),
    "22-openrouter-docs-legacy": ("completed", LEGACY),
    "22b-openrouter-docs-example": ("completed", LEGACY),
    "23-openrouter-failed-error_type": ("failed", None),
    "24-openrouter-response.error": (None, None),
    "25-openrouter-chat-style-error": (None, None),
    "26-openrouter-cache-hit-zero-usage": ("completed", Usage(0, 0, None, 0, 0, 0, 0)),
    "30-azure": ("completed", Usage(64, 0, None, 9, 0, 73)),
    "31-vllm": ("completed", Usage(33, 16, None, 120, 111, 153)),
    "32-llamacpp": ("completed", Usage(21, None, None, 6, None, 27)),
    "33-ollama": ("completed", Usage(68, 0, None, 40, 0, 108)),
    "34-lmstudio": ("completed", Usage(70, None, None, 22, 11, 92)),
    "40-framing-crlf": ("completed", FRAMED),
    "41-framing-cr-only": ("completed", FRAMED),
    "42-framing-bom": ("completed", FRAMED),
    "43-framing-multiline-data": ("completed", FRAMED),
    "44-framing-no-space-after-colon": ("completed", FRAMED),
    "45-framing-no-final-blank-line": ("completed", FRAMED),
    "46-framing-id-retry-comments": ("completed", FRAMED),
    "46b-framing-comments-only": ("completed", FRAMED),
    "46c-framing-event-without-data": ("completed", FRAMED),
    "47-cut-before-terminal": (None, None),
    "48-cut-mid-event": (None, None),
    "49-unknown-events": ("completed", FRAMED),
    "50-usage-null-details": ("completed", Usage(5, None, None, 2, None, 7)),
    "51-usage-missing": ("completed", None),
}
FAILED = {
    "05-openai-error-then-failed": "server_error",
    "06-openai-error-flat-only": "rate_limit_exceeded",
    "07-openai-failed-with-usage": "rate_limit_exceeded",
    "23-openrouter-failed-error_type": "server_error",
    "24-openrouter-response.error": "rate_limit_exceeded",
    "25-openrouter-chat-style-error": "provider_unavailable",
}
TERMINAL = re.compile(rb'"type":\s*"response\.(completed|incomplete|failed|done)"')
BLANK_LINE = re.compile(rb"(?:\r\n|\r|\n){2,}")


def stream_of(name: str) -> bytes:
    return (WIRE / f"{name}.sse").read_bytes()


def weigh(meter: Meter, stream: bytes, size: int) -> list[int]:
    """Feed all of it; returns how many bytes were in at each True, and one more for end()."""
    ends = range(size, len(stream) + size, size)
    said = [min(end, len(stream)) for end in ends if meter.feed(stream[end - size : end])]
    return [*said, len(stream) + 1] if meter.end() else said


def closed_at(stream: bytes) -> list[int]:
    """Just after the closing brace of the first terminal event, worked out the slow way; empty if there is none."""
    start = 0
    for event in BLANK_LINE.split(stream):
        start = stream.index(event, start)
        if TERMINAL.search(event) and event.rstrip().endswith(b"}"):
            return [start + event.rindex(b"}") + 1]
        start += len(event)
    return []


def test_every_sample_has_its_expectation() -> None:
    assert {path.stem for path in WIRE.glob("*.sse")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**6])
def test_the_wire_samples(name: str, size: int) -> None:
    meter = StreamMeter(orjson.loads)
    said = weigh(meter, stream_of(name), size)
    status, usage = EXPECTED[name]
    reading = meter.reading
    assert (reading.status, reading.usage) == (status, usage)
    assert (reading.failed, reading.error_code) == (name in FAILED, FAILED.get(name))
    assert reading.response_id is not None
    assert (reading.model is None) == (usage == LEGACY)
    assert len(said) == (status is not None)
    assert meter.errors == 0


@pytest.mark.parametrize("name", EXPECTED)
def test_byte_by_byte_the_closing_brace_is_the_moment(name: str) -> None:
    stream = stream_of(name)
    assert weigh(StreamMeter(), stream, 1) == closed_at(stream)


@pytest.mark.parametrize("name", EXPECTED)
def test_for_every_cut_the_chunk_that_closes_the_event_is_the_moment(name: str) -> None:
    stream = stream_of(name)
    for closing in closed_at(stream):
        for cut in {*range(5, len(stream), 23), *range(closing - 30, min(closing + 8, len(stream)))}:
            meter = StreamMeter(orjson.loads)
            first, second = meter.feed(stream[:cut]), meter.feed(stream[cut:])
            assert (first, second) == (cut >= closing, cut < closing), cut


USAGE = {"input_tokens": 12, "output_tokens": 45, "total_tokens": 57}
TERMINAL_EVENT = {"type": "response.completed", "response": {"status": "completed", "usage": USAGE}}
DONE = json.dumps(TERMINAL_EVENT)
IN_PROGRESS = {"status": "in_progress", "metadata": TERMINAL_EVENT}
DECOYS = [
    json.dumps({"type": "response.output_text.delta", "delta": DONE}),
    json.dumps({"type": "response.output_text.delta", "delta": f"\n\ndata: {DONE}\n\n"}),
    json.dumps({"type": "response.output_text.delta", "delta": "\\" + DONE}),
    json.dumps({"type": "response.output_text.delta", "delta": f"\u2028data: {DONE}\x85"}, ensure_ascii=False),
    json.dumps({"type": "response.output_item.done", "item": TERMINAL_EVENT}),
    json.dumps({"type": "response.in_progress", "response": IN_PROGRESS}),
    json.dumps({"type": "x", "deep": [[{"response": TERMINAL_EVENT}]]}),
]


@pytest.mark.parametrize("decoy", DECOYS)
@pytest.mark.parametrize("size", [1, 16, 10**6])
def test_decoys_do_not_count(decoy: str, size: int) -> None:
    meter = StreamMeter()
    assert weigh(meter, f": {DONE}\nid: {DONE}\nxdata: {DONE}\ndata: {decoy}\n\n".encode(), size) == []
    assert meter.reading == AnswerReading()


@pytest.mark.parametrize("size", [1, 5, 10**6])
def test_the_first_of_two_terminal_events_counts(size: int) -> None:
    meter = StreamMeter()
    second = DONE.replace("12", "99").replace("completed", "failed")
    assert len(weigh(meter, f"data: {DONE}\n\ndata: {second}\n\nevent: error\ndata: {{}}\n\n".encode(), size)) == 1
    assert meter.reading == AnswerReading("completed", LEGACY)


@pytest.mark.parametrize("size", [1, 2, 3, 10**6])
def test_a_byte_order_mark_counts_at_the_start_only(size: int) -> None:
    marked = b"\xef\xbb\xbfdata: " + DONE.encode()
    assert weigh(StreamMeter(), marked, size) == [len(marked)]
    assert weigh(StreamMeter(), b"\n" + marked, size) == []


def test_faults_are_counted_and_forgotten() -> None:
    def loads(data: bytes) -> object:
        if b"boom" in data:
            raise ZeroDivisionError
        return json.loads(data)

    meter = StreamMeter(loads)
    assert not meter.feed(b'data: {"response":"boom"}\n\ndata: {"response":')
    assert not meter.feed(b'"cut}\n\n')
    assert meter.errors == 1
    assert not meter.feed(b'data: {"response" nothing\n\n')
    assert meter.errors == 2
    assert meter.feed(f"data: {DONE}\n\n".encode())
    assert meter.reading == AnswerReading("completed", LEGACY)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
@pytest.mark.parametrize("text", ["short", "long " * 60_000])
def test_a_body_is_weighed_with_its_last_brace(size: int, indent: int | None, text: str) -> None:
    usage = {"input_tokens": 12, "output_tokens": 45, "total_tokens": 57}
    body = {"id": "r", "status": "completed", "error": None, "model": "m", "output": [{"text": text}], "usage": usage}
    document = json.dumps(body, indent=indent).encode()
    meter = BodyMeter(orjson.loads)
    size = size if text == "short" else size * 1000
    assert weigh(meter, document, size) == [len(document)]
    assert meter.reading == AnswerReading("completed", LEGACY, "r", "m")
    assert not meter.feed(b"\n")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"usage":{"input_tokens":1}', b'{"a":"' + b"x" * 300_000])
def test_a_body_that_is_none_is_never_whole(body: bytes) -> None:
    meter = BodyMeter()
    assert weigh(meter, body, 1000) == []
    assert meter.reading == AnswerReading()
    assert meter.errors == bool(body)


def test_an_error_body_of_openrouter() -> None:
    meter = BodyMeter()
    body = (WIRE / "json" / "openrouter-402.json").read_bytes()
    assert weigh(meter, body, 1) == [len(body.rstrip())]
    assert meter.reading == AnswerReading("failed", error_code="payment_required", failed=True)
