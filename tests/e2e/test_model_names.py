"""Names of models are what callers say: none of them breaks a log line, a record, a metric or a terminal."""

import csv
import io
import json
import unicodedata

import pytest

from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, document

NAMES = [
    "nul\x00inside",
    "line\nfeed\r\nand return",
    "quote\"back\\slash'",
    "\x1b]0;title\x07\x1b[2Jescape",
    "\u2028separators\u2029\u0085",
    "\u202eright to left",
    'x{model="y"} 1\nweighbridge_tokens_total 9e9',
    "=cmd|' /C calc'!A0",
    "\x7f\x9b31mdelete",
    "n" * 256,
    "",
]


@pytest.fixture(scope="module")
def told(gateway: Gateway, replay: ReplayUpstream) -> list[str]:
    """Every name, asked for and served; what the program has printed by then."""
    for name in NAMES:
        body = json.dumps({"id": "resp_1", "object": "response", "status": "completed", "model": name}).encode()
        answer = gateway.post({"model": name, "input": "x"}, replay.play(document(body)))
        assert (answer.status, answer.body) == (200, body)
    return [gateway.process.out, gateway.process.err]


def test_records_hold_the_names(gateway: Gateway, told: list[str]) -> None:
    asked = [record["model_requested"] for record in gateway.records() if record["response_id"] == "resp_1"]
    assert set(NAMES) <= {name or "" for name in asked}


def test_a_log_line_is_one_line(gateway: Gateway, told: list[str]) -> None:
    lines = [line for text in told for line in text.splitlines() if line.startswith("{")]
    assert [json.loads(line) for line in lines]
    assert not [char for text in told for char in text if unicodedata.category(char) == "Cc" and char not in "\n\t"]


def test_metrics_stay_readable(gateway: Gateway, told: list[str]) -> None:
    assert gateway.metric("weighbridge_requests_total") >= len(NAMES)
    text = gateway.get("/metrics").body.decode()
    assert "9e9" not in text
    assert "right to left" not in text


@pytest.mark.parametrize("options", [("--by", "model"), ("--by", "request"), ("--by", "model", "--csv")])
def test_a_terminal_gets_no_orders(gateway: Gateway, told: list[str], options: tuple[str, ...]) -> None:
    shown = gateway.command("usage", *options).stdout
    assert "escape" in shown
    assert not [char for char in shown if unicodedata.category(char) in {"Cc", "Cf"} and char not in "\n\r\t"]


def test_a_spreadsheet_gets_no_formula(gateway: Gateway, told: list[str]) -> None:
    shown = gateway.command("usage", "--by", "model", "--csv").stdout
    cells = [cell for row in csv.reader(io.StringIO(shown)) for cell in row]
    assert any("calc" in cell for cell in cells)
    assert not [cell for cell in cells if cell[:1] in set("=+@\t\r")]
