"""`usage`: every grouping as a table, JSON and CSV, and what the filters let through."""

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import ASK, ASK_STREAM
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, document, stream
from tests.e2e.samples import wire
from tests.record_fields import RECORD_FIELDS

GROUPINGS = ("client", "model", "day", "hour")
CALLS = (
    ("alice", "20-openrouter-current"),
    ("alice", "21-openrouter-named-events"),
    ("bob", "03-openai-toolcalls"),
    ("bob", "05-openai-error-then-failed"),
)
INPUT_TOKENS = 2310 + 2310 + 412
FORMULA = "=HYPERLINK(1)"


@pytest.fixture(scope="module")
def counted(replay: ReplayUpstream, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose ledger holds six known calls."""
    folder = tmp_path_factory.mktemp("counted")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=replay.url) as gateway:
        keys = {name: gateway.new_key(name) for name in ("alice", "bob")}
        for client, sample in CALLS:
            gateway.key = keys[client]
            gateway.post(ASK_STREAM, replay.play(stream(wire(sample))))
        gateway.post(b"not json")
        served = {"status": "completed", "model": FORMULA, "usage": {"input_tokens": 0, "output_tokens": 0}}
        gateway.post(ASK, replay.play(document(json.dumps(served).encode())))
        yield gateway


def of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("by", GROUPINGS)
def test_a_grouping_in_each_form(counted: Gateway, by: str) -> None:
    rows = counted.json_of("usage", "--by", by)
    assert sum(row["requests"] for row in rows) == len(CALLS) + 2
    assert sum(row["input_tokens"] or 0 for row in rows) == INPUT_TOKENS
    assert sum(Decimal(row["cost_usd"] or 0) for row in rows) >= Decimal("0.00163456")
    assert sum(row["unknown_usage"] for row in rows) == 1  # the failed one; the rejected one had nothing to use
    text = of_csv(counted.command("usage", "--by", by, "--csv").stdout)
    assert [row[by].lstrip("'") for row in text] == [row[by] or "" for row in rows]
    assert [row["requests"] for row in text] == [str(row["requests"]) for row in rows]
    table = counted.command("usage", "--by", by)
    for row in rows:
        assert any(line.startswith(f"{row[by] or '-'} ") for line in table.stdout.splitlines())
    assert f"{INPUT_TOKENS:,}" in table.stdout
    assert "1 call has no known usage" in table.stderr


def test_records_have_the_fields_of_the_contract_in_their_order(counted: Gateway) -> None:
    lines = counted.command("usage", "--by", "request", "--json").stdout.splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [list(record) for record in records] == [RECORD_FIELDS] * (len(CALLS) + 2)
    first = records[0]
    assert (first["client"], first["cost_usd"], first["cost_source"]) == ("alice", "0.00123456", "reported")
    assert [record["outcome"] for record in records[3:5]] == ["failed", "rejected"]
    assert records[3]["input_tokens"] is None  # unknown, not nothing
    assert records[5]["input_tokens"] == 0
    assert records == counted.records()


def test_records_in_the_other_forms(counted: Gateway) -> None:
    rows = of_csv(counted.command("usage", "--by", "request", "--csv").stdout)
    assert list(rows[0]) == RECORD_FIELDS
    assert [row["request_id"] for row in rows] == [record["request_id"] for record in counted.records()]
    assert rows[3]["input_tokens"] == ""
    assert rows[5]["model_served"] == f"'{FORMULA}"  # or a spreadsheet would follow it
    table = counted.command("usage", "--by", "request").stdout.splitlines()
    assert len(table) == len(rows) + 1
    assert rows[0]["request_id"] in table[1]


def total(gateway: Gateway, *arguments: str) -> int:
    return sum(row["requests"] for row in gateway.json_of("usage", *arguments))


def test_the_filters(counted: Gateway) -> None:
    assert total(counted, "--client", "alice") == 2
    assert total(counted, "--client", "bob", "--by", "model") == len(CALLS)
    assert total(counted, "--model", FORMULA) == 1
    assert total(counted, "--since", "24h") == len(CALLS) + 2
    assert total(counted, "--since", "2999-01-01") == 0
    assert total(counted, "--until", "2001-01-01") == 0
    third = counted.records()[2]["started_at"]
    assert total(counted, "--until", third) == 2
    assert total(counted, "--since", third) == len(CALLS)
    lines = counted.command("usage", "--by", "request", "--json", "--client", "bob").stdout.splitlines()
    assert {json.loads(line)["client"] for line in lines} == {"bob"}


def test_nothing_to_show(counted: Gateway) -> None:
    done = counted.command("usage", "--client", "nobody")
    assert (done.stdout, done.stderr) == ("", "No calls are recorded for this.\n")
    assert counted.json_of("usage", "--client", "nobody") == []


@pytest.mark.parametrize("form", [(), ("--csv",)], ids=["table", "csv"])
def test_no_record_to_show(counted: Gateway, form: tuple[str, ...]) -> None:
    done = counted.command("usage", "--by", "request", "--client", "nobody", *form)
    header = ",".join(RECORD_FIELDS) + "\n" if form else ""
    assert (done.stdout, done.stderr) == (header, "No calls are recorded for this.\n")


def test_one_upstream(counted: Gateway) -> None:
    own = counted.records()[0]["upstream"]
    assert total(counted, "--upstream", own) == total(counted)
    assert counted.json_of("usage", "--upstream", "another") == []
    lines = counted.command("usage", "--by", "request", "--json", "--upstream", own).stdout.splitlines()
    assert [json.loads(line) for line in lines] == counted.records()


def test_counts_that_add_up_to_requests_stand_together(counted: Gateway) -> None:
    (row,) = counted.json_of("usage", "--client", "bob")
    names = list(row)[1:6]
    assert names == ["requests", "completed", "rejected", "in_progress", "other"]
    assert row["requests"] == sum(row[name] for name in names[1:])


def test_a_time_that_is_none(counted: Gateway) -> None:
    done = counted.command("usage", "--since", "yesterday-ish", exit_code=2)
    assert (done.stdout, "neither a span" in done.stderr) == ("", True)


def test_without_a_server_the_ledger_is_the_same(counted: Gateway, tmp_path: Path) -> None:
    before = counted.json_of("usage", "--by", "model")
    assert counted.process.end() == 0
    assert counted.json_of("usage", "--by", "model") == before
    counted.restart()
