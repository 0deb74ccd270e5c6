"""Every sample stream through an exchange: the bytes stay, and the ledger gets what the samples' own README says."""

import re
from pathlib import Path

import pytest

from app.domain.records import Outcome, Record, UsageSource
from tests.gateway.house import House

WIRE = Path(__file__).parents[1] / "wire"
STREAMS = sorted(path.stem for path in WIRE.glob("*.sse"))
SIX = re.compile(r"(?<![\w/.])(?:\d+|-)(?:/(?:\d+|-)){5}(?![\w/])")
FRAMED = "5/0/-/2/0/7"
SAID_IN_PROSE = {
    "22b-openrouter-docs-example": "12/-/-/45/-/57",
    "47-cut-before-terminal": None,
    "48-cut-mid-event": None,
    "50-usage-null-details": "5/-/-/2/-/7",
    "51-usage-missing": None,
}
OUTCOMES = {
    "04-openai-incomplete": Outcome.INCOMPLETE,
    "05-openai-error-then-failed": Outcome.FAILED,
    "06-openai-error-flat-only": Outcome.FAILED,
    "07-openai-failed-with-usage": Outcome.FAILED,
    "23-openrouter-failed-error_type": Outcome.FAILED,
    "24-openrouter-response.error": Outcome.FAILED,
    "25-openrouter-chat-style-error": Outcome.FAILED,
    "47-cut-before-terminal": Outcome.TRUNCATED,
    "48-cut-mid-event": Outcome.TRUNCATED,
}


def expected_usage() -> dict[str, str | None]:
    """By sample: `in/cached/write/out/reasoning/total`, or None where there is no usage."""
    expected: dict[str, str | None] = {}
    rows = re.findall(r"^\| ([\w.-]+)\.sse \| (.+) \|$", (WIRE / "README.md").read_text("utf-8"), re.MULTILINE)
    previous: str | None = None
    for name, rest in rows:
        found = SIX.search(rest)
        if found:
            previous = found[0]
        elif "as 01" in rest:
            previous = expected["01-openai-completed"]
        elif "same tokens" not in rest:
            previous = None
        expected[name] = previous
    framing = {name: FRAMED for name in STREAMS if name.startswith("4")}
    return {**framing, **expected, **SAID_IN_PROSE}


EXPECTED = expected_usage()


def weighed(record: Record) -> str | None:
    counts = (
        record.input_tokens,
        record.cached_input_tokens,
        record.cache_write_tokens,
        record.output_tokens,
        record.reasoning_tokens,
        record.total_tokens,
    )
    if record.usage_source is not UsageSource.REPORTED:
        return None
    return "/".join("-" if count is None else str(count) for count in counts)


def test_every_sample_has_its_expectation() -> None:
    assert EXPECTED.keys() == set(STREAMS)
    assert EXPECTED["01-openai-completed"] == EXPECTED["02-openresponses-completed-done"] == "1523/1024/256/87/64/1610"
    assert EXPECTED["21-openrouter-named-events"] == "2310/2048/0/141/96/2451"


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1, 7, 64, 1000, 10**6])
def test_a_sample_passes_and_is_weighed(name: str, size: int) -> None:
    house = House(at_once=True)
    visit = house.visit()
    stream = (WIRE / f"{name}.sse").read_bytes()
    visit.upstream.stream_head()
    visit.upstream.data(*(stream[start : start + size] for start in range(0, len(stream), size)))
    visit.upstream.end()
    assert visit.client.received == stream
    assert visit.client.ending == "finish"
    assert weighed(visit.record) == EXPECTED[name]
    assert visit.record.outcome is OUTCOMES.get(name, Outcome.COMPLETED)
    assert house.observer.meter_failures == 0


@pytest.mark.parametrize("name", [name for name in STREAMS if EXPECTED[name] is not None])
def test_nothing_of_the_weight_leaves_before_the_commit(name: str) -> None:
    house = House()
    visit = house.visit()
    stream = (WIRE / f"{name}.sse").read_bytes()
    visit.upstream.stream_head()
    visit.upstream.data(*(stream[start : start + 1] for start in range(len(stream))))
    held = stream[len(visit.client.received) :]
    assert stream.startswith(visit.client.received)
    assert held.lstrip().startswith(b"}")
    assert b"usage" not in held
    visit.upstream.end()
    visit.commit()
    assert visit.client.received == stream
