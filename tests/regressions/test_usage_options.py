"""What `usage` takes (issue 12, F7): months, outcomes, the dearest first, no more than N lines, one --by; CSV."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import ASK
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, document

COSTS = {"small": 0.001, "large": 0.5, "middle": 0.02}
EMPTY = ("--client", "nobody")


@pytest.fixture(scope="module")
def house(replay: ReplayUpstream, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Three calls that cost something, and one that was refused."""
    folder = tmp_path_factory.mktemp("options")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=replay.url) as gateway:
        for model, cost in COSTS.items():
            usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "cost": cost}
            served = {"status": "completed", "model": model, "usage": usage}
            gateway.post(ASK, replay.play(document(json.dumps(served).encode())))
        gateway.post(b"not json")
        yield gateway


def records(house: Gateway, *arguments: str) -> list[dict[str, Any]]:
    done = house.command("usage", "--by", "request", "--json", *arguments)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_dearest_first(house: Gateway) -> None:
    rows = house.json_of("usage", "--by", "model", "--sort", "cost")
    assert [row["model"] for row in rows][:3] == ["large", "middle", "small"]
    rows = house.json_of("usage", "--by", "model", "--sort", "cost", "--limit", "1")
    assert [row["model"] for row in rows] == ["large"]
    assert [r["model_served"] for r in records(house, "--sort", "cost")] == ["large", "middle", "small", None]
    assert [r["model_served"] for r in records(house, "--sort", "cost", "--limit", "2")] == ["large", "middle"]


def test_a_limit_leaves_the_newest_calls(house: Gateway) -> None:
    everything = records(house)
    assert records(house, "--limit", "2") == everything[-2:]
    assert records(house, "--limit", "99") == everything
    assert len(house.json_of("usage", "--by", "model", "--limit", "2")) == 2


def test_one_outcome(house: Gateway) -> None:
    assert [r["outcome"] for r in records(house, "--outcome", "rejected")] == ["rejected"]
    (row,) = house.json_of("usage", "--outcome", "completed")
    assert (row["requests"], row["completed"], row["cost_usd"]) == (3, 3, "0.521")
    assert house.json_of("usage", "--outcome", "timeout") == []
    wrong = house.command("usage", "--outcome", "done", exit_code=2)
    assert "completed" in wrong.stderr


def test_a_month(house: Gateway) -> None:
    month = house.records()[0]["started_at"][:7]
    (row,) = house.json_of("usage", "--since", month)
    assert row["requests"] == len(COSTS) + 1
    assert house.json_of("usage", "--until", month) == []


def test_two_groupings_are_refused(house: Gateway) -> None:
    done = house.command("usage", "--by", "model", "--by", "day", exit_code=2)
    assert "--by" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("by", ["client", "model", "day", "hour", "request"])
def test_csv_has_its_header_also_when_it_is_empty(house: Gateway, by: str) -> None:
    some = house.command("usage", "--by", by, "--csv").stdout.splitlines()
    none = house.command("usage", "--by", by, "--csv", *EMPTY).stdout.splitlines()
    assert none == some[:1]


def test_csv_writes_booleans_as_json_does(house: Gateway) -> None:
    rows = list(csv.DictReader(io.StringIO(house.command("usage", "--by", "request", "--csv").stdout)))
    assert {row["stream"] for row in rows} == {"false"}


def test_the_api_refuses_what_it_does_not_know(house: Gateway) -> None:
    for query in ("by=day&sort=tokens", "limit=0", "outcome=done", "unknown=1", "book=other"):
        assert house.admin("GET", f"/usage?{query}").status == 400
    assert Path(house.state_dir).exists()


def test_one_call_by_any_id_of_it(house: Gateway) -> None:
    record = house.records()[0]
    done = house.command("usage", "--request", record["request_id"])
    shown = dict(line.split(None, 1) for line in done.stdout.splitlines()[1:])
    assert (shown["request_id"], shown["outcome"]) == (record["request_id"], "completed")
    assert (shown["stream"], shown["cost_usd"]) == ("false", "0.001")
    assert "http_status" in shown
    as_json = house.command("usage", "--request", record["request_id"], "--json").stdout
    assert json.loads(as_json) == record
    unknown = house.command("usage", "--request", "req_nothing", exit_code=1)
    assert (unknown.stdout, "no record of 'req_nothing'" in unknown.stderr) == ("", True)
    house.command("usage", "--request", record["request_id"], "--by", "day", exit_code=2)
