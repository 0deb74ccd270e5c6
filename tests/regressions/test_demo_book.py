"""Calls of `serve --demo` cost play money and are a book of their own (issue 12, D4)."""

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import ASK, opened
from tests.e2e.program import Gateway, Mock, Process, clean_environment, run

HIDDEN = "Not shown: 2 calls of the demo. `usage --demo` shows them, `usage --all` everything.\n"


@dataclass
class Demo:
    """What is left of a demo in which `default` has made two calls, with a budget of 1 USD."""

    folder: Path
    key: str
    cost: Decimal

    def usage(self, *arguments: str) -> tuple[Any, str]:
        env = clean_environment(self.folder, WEIGHBRIDGE_STATE_DIR=str(self.folder / "state"))
        done = run("usage", *arguments, "--json", env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr


def ask(url: str, key: str) -> Any:  # noqa: ANN401 - JSON
    with opened(url, key, method="GET") as call:
        return call.rest().json


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    env = clean_environment(folder, WEIGHBRIDGE_STATE_DIR=str(folder / "state"))
    server = Process(("serve", "--demo", "--port", "0"), env, r"ready at (\S+)", folder)
    key = server.out.split("OPENAI_API_KEY=")[1].split()[0]
    assert run("clients", "set", "default", "--budget-usd", "1/month", env=env).returncode == 0
    for _ in range(2):
        with opened(f"{server.url}/v1/responses", key, ASK) as call:
            assert call.rest().status == 200
    seen = ask(f"{server.url}/usage", key)
    assert seen["total"]["requests"] == 2  # while the demo runs, its book is the one that counts
    budget = seen["limits"]["client"]["budgets"][0]
    assert Decimal(budget["spent"]) == Decimal(seen["total"]["cost_usd"]) > 0
    (row,) = json.loads(run("usage", "--json", env=env).stdout)
    assert row["requests"] == 2
    assert server.end() == 0
    return Demo(folder, key, Decimal(row["cost_usd"]))


def test_usage_shows_the_book_of_the_mode_and_says_what_it_leaves_out(demo: Demo) -> None:
    assert demo.usage() == ([], HIDDEN)
    rows, said = demo.usage("--demo")
    assert (rows[0]["requests"], Decimal(rows[0]["cost_usd"]), said) == (2, demo.cost, "")
    assert demo.usage("--all")[0] == rows
    assert demo.usage("--upstream", "mock")[0] == rows
    env = clean_environment(demo.folder, WEIGHBRIDGE_STATE_DIR=str(demo.folder / "state"))
    lines = run("usage", "--by", "request", "--json", env=env)
    assert (lines.stdout, lines.stderr) == ("", HIDDEN)
    lines = run("usage", "--by", "request", "--demo", "--json", env=env)
    assert [json.loads(line)["demo"] for line in lines.stdout.splitlines()] == [True, True]


def test_play_money_spends_no_budget(demo: Demo, canary_key: str, mock_process: Mock) -> None:
    with Gateway(demo.folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1") as gateway:
        gateway.key = demo.key
        gateway.secrets["first key"] = demo.key
        before = ask(f"{gateway.url}/usage", demo.key)
        assert before["total"]["requests"] == 0
        assert before["limits"]["client"]["budgets"][0]["spent"] == "0"
        assert ask(f"{gateway.url}/key", demo.key)["data"]["usage"] == 0
        gateway.post(ASK)
        (row,) = gateway.json_of("usage")
        assert row["requests"] == 1
        spent = ask(f"{gateway.url}/usage", demo.key)["limits"]["client"]["budgets"][0]["spent"]
        assert Decimal(spent) == Decimal(row["cost_usd"])
        assert gateway.json_of("clients", "show", "default")["usage"]["requests"] == 1
        (everything,) = gateway.json_of("usage", "--all")
        assert everything["requests"] == 3


def test_no_real_upstream_has_the_name_of_the_demos(tmp_path: Path) -> None:
    config = tmp_path / "weighbridge.toml"
    config.write_text('[[upstream]]\nname = "mock"\n')
    done = run("config", "check", "--config", str(config), env=clean_environment(tmp_path))
    assert done.returncode == 2
    assert "must not be mock" in done.stderr
