import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.record_json import record_fields, rfc3339
from app.domain.records import CostSource, Outcome, Record, UsageSource
from tests.record_fields import RECORD_FIELDS

moments = st.integers(0, 253_402_300_799_999_999)  # to the end of the year 9999


def opened() -> Record:
    return Record("req_1", 1_795_381_123_456_789, "alice", "k1", "openrouter", "/responses")


def test_names_and_order_are_the_contracts() -> None:
    assert list(record_fields(opened())) == RECORD_FIELDS


def test_every_field_of_a_record_is_shown_but_what_the_contract_does_not_name() -> None:
    renamed = {"cost_nanousd": "cost_usd"}
    shown = {renamed.get(field.name, field.name) for field in fields(Record)} - {
        "price",
        "background",
        "worst_case",
        "held",
        "service_tier",
        "max_output_tokens",
    }
    assert shown == set(RECORD_FIELDS)


def test_unknown_is_null_and_never_zero() -> None:
    public = record_fields(opened())
    unknown = [name for name in RECORD_FIELDS if name.endswith(("_tokens", "_ms")) or name.startswith("cost_")]
    assert {public[name] for name in unknown} == {None}
    assert public["finished_at"] is None


def test_zero_is_zero_and_never_null() -> None:
    record = opened()
    record.input_tokens, record.cost_nanousd = 0, 0
    assert record_fields(record)["input_tokens"] == 0
    assert record_fields(record)["cost_usd"] == "0"


def test_a_whole_record_survives_json() -> None:
    record = opened()
    record.outcome, record.usage_source, record.cost_source = Outcome.COMPLETED, UsageSource.REPORTED, CostSource.PRICED
    record.finished_at, record.duration_ms, record.cost_nanousd = record.started_at + 1, 1.23456, 1
    public = json.loads(json.dumps(record_fields(record)))
    assert public["started_at"] == "2026-11-22T20:58:43.456789Z"
    assert public["finished_at"] == "2026-11-22T20:58:43.456790Z"
    assert (public["outcome"], public["usage_source"], public["cost_source"]) == ("completed", "reported", "priced")
    assert (public["duration_ms"], public["cost_usd"], public["stream"]) == (1.235, "0.000000001", False)


@pytest.mark.parametrize("name", ["outcome", "usage_source"])
def test_closed_sets_are_plain_text(name: str) -> None:
    assert type(record_fields(opened())[name]) is str


@given(nanousd=st.integers(0, 10**18))
def test_cost_is_exact(nanousd: int) -> None:
    record = opened()
    record.cost_nanousd = nanousd
    assert Decimal(str(record_fields(record)["cost_usd"])) * 10**9 == nanousd


@given(moment=moments)
def test_times_read_back(moment: int) -> None:
    read = datetime.fromisoformat(rfc3339(moment))
    assert read == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)


@given(one=moments, other=moments)
def test_times_sort_as_text(one: int, other: int) -> None:
    assert (one < other) == (rfc3339(one) < rfc3339(other))
