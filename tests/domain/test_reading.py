"""The rules of reading: which events end an answer, what fails it, and which of many codes is kept."""

import json
from pathlib import Path

import pytest

from app.domain.answer.reading import AnswerReading
from app.domain.answer.usage import Usage

BODIES = Path(__file__).parents[1] / "wire" / "json"
USAGE = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
COUNTED = Usage(input_tokens=5, output_tokens=2, total_tokens=7)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"type": "response.completed", "response": {}}, "completed"),
        ({"type": "response.completed"}, "completed"),
        ({"type": "response.incomplete", "response": None}, "incomplete"),
        ({"type": "response.failed", "response": {"status": "in_progress"}}, "failed"),
        ({"type": "response.done", "response": {"usage": USAGE}}, "completed"),
        ({"type": "response.done", "response": {"status": "incomplete"}}, "incomplete"),
        ({"type": "response.new", "response": {"status": "cancelled"}}, "cancelled"),
        ({"response": {"status": "completed"}}, "completed"),
        ({"type": "response.completed", "response": {"status": ["completed"]}}, "completed"),
    ],
)
def test_an_event_ends_the_answer_by_its_status_or_its_type(event: object, status: str) -> None:
    reading = AnswerReading()
    assert reading.note_event(event)
    assert reading.status == status
    assert reading.failed == (status == "failed")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.created", "response": {"status": "in_progress", "usage": USAGE}},
        {"type": "response.output_item.done", "item": {"type": "response.completed", "status": "completed"}},
        {"type": "response.output_text.delta", "status": "completed"},
        {"item": {"response": {"status": "completed", "usage": USAGE}}},
        {"type": "error", "error": {"code": "x"}},
        {"type": ["response.completed"]},
        ["response.completed"],
        "response.completed",
        None,
    ],
)
def test_nothing_else_ends_it_or_is_counted(event: object) -> None:
    reading = AnswerReading()
    assert not reading.note_event(event)
    assert reading.status is None
    assert reading.usage is None


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "m"}, "rate_limit_exceeded"),
        ({"type": "error", "error": {"code": None, "type": "server_error"}}, "server_error"),
        ({"type": "response.error", "error": {"code": "overloaded"}}, "overloaded"),
        ({"error": {"code": 502, "metadata": {"error_type": "provider_unavailable"}}}, "provider_unavailable"),
        ({"error": {"code": 502}}, "502"),
        ({"error": {"code": True}}, None),
        ({"error": "free text"}, None),
        ({"error": {}}, None),
        ({"type": "error", "error": {"code": "not <an> id/é\n" + "x" * 99}}, "not_an_id_" + "x" * 54),
        ({"type": "error", "error": {"code": "  ", "error_type": "a.b:c-d_9"}}, "a.b:c-d_9"),
    ],
)
def test_an_error_marks_the_answer_as_failed(event: object, code: str | None) -> None:
    reading = AnswerReading()
    assert not reading.note_event(event)
    assert reading == AnswerReading(failed=True, error_code=code)


def test_an_error_with_another_type_is_none_of_ours() -> None:
    reading = AnswerReading()
    reading.note_event({"type": "response.mcp_call.failed", "error": {"code": "x"}})
    assert reading == AnswerReading()


def test_a_failed_response_keeps_its_usage_and_the_error_before_it() -> None:
    reading = AnswerReading()
    reading.note_event({"type": "error", "error": {"code": "first"}})
    assert reading.note_event({"type": "response.failed", "response": {"id": "r", "error": None, "usage": USAGE}})
    assert reading == AnswerReading("failed", COUNTED, "r", error_code="first", failed=True)


def test_the_terminal_event_has_the_last_word_on_names() -> None:
    reading = AnswerReading()
    for name in ("first", "second"):
        reading.note_event({"type": "response.created", "response": {"id": name, "model": name}})
    assert (reading.response_id, reading.model, reading.named) == ("first", "first", True)
    reading.note_event({"type": "response.completed", "response": {"id": "", "model": "served"}})
    assert (reading.response_id, reading.model) == ("first", "served")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai-compact-200", AnswerReading("completed", Usage(42897, 40960, 0, 1200, 512, 44097), "resp_cmp1")),
        ("openai-input_tokens-200", AnswerReading()),
        ("openai-401", AnswerReading("failed", error_code="invalid_api_key", failed=True)),
        ("openai-429-quota", AnswerReading("failed", error_code="insufficient_quota", failed=True)),
        ("openai-429-rate", AnswerReading("failed", error_code="rate_limit_exceeded", failed=True)),
        ("openrouter-400-store", AnswerReading("failed", error_code="invalid_prompt", failed=True)),
        ("openrouter-401", AnswerReading("failed", error_code="401", failed=True)),
        ("openrouter-402", AnswerReading("failed", error_code="payment_required", failed=True)),
        ("openrouter-403-guardrail", AnswerReading("failed", error_code="403", failed=True)),
        ("openrouter-429-capacity", AnswerReading("failed", error_code="rate_limit_exceeded", failed=True)),
        ("openrouter-529", AnswerReading("failed", error_code="provider_overloaded", failed=True)),
    ],
)
def test_bodies_of_the_wire(name: str, expected: AnswerReading) -> None:
    reading = AnswerReading()
    reading.note_body(json.loads((BODIES / f"{name}.json").read_bytes()))
    assert reading == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": "completed", "usage": USAGE, "error": None}, AnswerReading("completed", COUNTED)),
        ({"status": "incomplete", "usage": USAGE}, AnswerReading("incomplete", COUNTED)),
        ({"status": "in_progress", "usage": None, "id": "r"}, AnswerReading(response_id="r")),
        (
            {"status": "failed", "usage": USAGE, "error": {"code": "c"}},
            AnswerReading("failed", COUNTED, None, None, "c", True),
        ),
        ({"status": "cancelled", "usage": None}, AnswerReading("cancelled")),
        (["completed"], AnswerReading()),
    ],
)
def test_bodies_by_rule(body: object, expected: AnswerReading) -> None:
    reading = AnswerReading()
    reading.note_body(body)
    assert reading == expected
