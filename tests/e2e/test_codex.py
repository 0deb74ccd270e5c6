"""What Codex itself does with our answers and our refusals: a program of 400 MB, which npm brings to a cache.

Counted is on the way to the gateway; protocol.md 5.2 and 7.4 say what is the least. 401, 403 and 413 Codex tries six
times whatever a server says. Of 503 it waits as long as we say before each of 12 (30 without `request_max_retries`).
"""

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.node_packages import installed
from tests.e2e.program import Gateway, Mock, clean_environment
from tests.e2e.refusing import LONG_QUESTION, MODEL, PAUSE_SECONDS, QUESTION, STATUS, Case, Refusing, refusing
from tests.e2e.test_limits import admin

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

VERSION = "0.169"
LONGEST_SECONDS = 180
EARLY_SECONDS = 0.05
CONFIG = """
model = "{model}"
model_provider = "weighbridge"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.weighbridge]
name = "Weighbridge"
base_url = "{url}"
env_key = "WEIGHBRIDGE_KEY"
wire_api = "responses"
supports_websockets = false
stream_idle_timeout_ms = 900000
request_max_retries = 1
"""
SENT = {
    "authentication": 6,
    "model_not_allowed": 6,
    "payload_too_large": 6,
    "insufficient_quota": 1,
    "rate_limited": 6,
    "for_a_moment": 2,
    "storage_unavailable": 12,
    "overloaded": 12,
    "draining": 12,
}
SAID = {
    "authentication": "This API key is revoked.",
    "model_not_allowed": f"may not use the model '{MODEL}'",
    "payload_too_large": "The request body is over",
    "insufficient_quota": "Quota exceeded.",  # a reason, if not ours: it shows no body of a 429
    "rate_limited": "last status: 429",
    "storage_unavailable": "Limits cannot be checked",
    "overloaded": "has as many calls as it may have",
    "draining": "This server is stopping.",
}


@dataclass
class Turn:
    """What came of one question to Codex: its exit code and the events that it printed."""

    exit_code: int
    events: list[dict[str, Any]]

    @property
    def words(self) -> str:
        return json.dumps(self.events[-1], ensure_ascii=False)


@dataclass
class Codex:
    program: Path
    folder: Path

    def ask(self, name: str, url: str, key: str, question: str) -> Turn:
        """In a home of its own."""
        home = self.folder / name
        home.mkdir()
        (home / "config.toml").write_text(CONFIG.format(model=MODEL, url=url))
        done = subprocess.run(
            [self.program, "exec", "--skip-git-repo-check", "--json", "-"],
            cwd=home,
            env=clean_environment(home, CODEX_HOME=str(home), WEIGHBRIDGE_KEY=key),
            input=question,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        return Turn(done.returncode, [json.loads(line) for line in done.stdout.splitlines()])


@pytest.fixture(scope="module")
def codex(tmp_path_factory: pytest.TempPathFactory) -> Codex:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "weighbridge-tests" / f"codex-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    installed(folder, [f"@openai/codex@{VERSION}"], seconds=300)
    return Codex(folder / "node_modules/.bin/codex", tmp_path_factory.mktemp("codex"))


@pytest.fixture(scope="module")
def house(mock_process: Mock, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refusing]:
    with refusing(tmp_path_factory.mktemp("refusing"), mock_process, canary_key, "codex") as made:
        yield made


@pytest.fixture(scope="module")
def turns(codex: Codex, house: Refusing) -> dict[str, tuple[Turn, Case]]:
    """All refusals at once, since most of it is waiting."""

    def refused(why: str) -> tuple[Turn, Case]:
        case = house.cases["codex", why]
        question = LONG_QUESTION if why == "payload_too_large" else QUESTION
        return codex.ask(why, case.url, case.key, question), case

    with ThreadPoolExecutor(len(STATUS)) as pool:
        return dict(zip(STATUS, pool.map(refused, STATUS), strict=True))


@pytest.mark.parametrize("why", STATUS)
def test_codex_sends_no_more_than_it_must(turns: dict[str, tuple[Turn, Case]], why: str) -> None:
    turn, case = turns[why]
    assert case.way.statuses[0] == STATUS[why]
    assert case.way.sent == len(case.way.statuses) == SENT[why], case.way.statuses
    if why in PAUSE_SECONDS:
        assert min(case.way.pauses) >= PAUSE_SECONDS[why] - EARLY_SECONDS
    if why == "for_a_moment":
        assert (turn.exit_code, turn.events[-1]["type"]) == (0, "turn.completed")
        assert case.way.statuses == [429, 200]
    else:
        assert (turn.exit_code, turn.events[-1]["type"]) == (1, "turn.failed")
        assert SAID[why] in turn.words


def test_codex_is_answered_and_its_usage_is_ours(codex: Codex, mocked: Gateway) -> None:
    before = mocked.records()
    turn = codex.ask("answered", f"{mocked.url}/api/v1", mocked.key, "Count from 1 to 5.")
    assert (turn.exit_code, turn.events[-1]["type"]) == (0, "turn.completed")
    record, usage = mocked.settled(before), turn.events[-1]["usage"]
    assert (record["input_tokens"], record["output_tokens"]) == (usage["input_tokens"], usage["output_tokens"])
    assert (record["outcome"], record["stream"]) == ("completed", True)


def test_codex_takes_a_hard_stop_for_an_answer_and_does_not_ask_again(codex: Codex, mocked: Gateway) -> None:
    key = mocked.new_key("codex-bounded")
    change = {"output_ceiling": 1, "hard_stop": True}
    assert admin(mocked, "PATCH", "/clients/codex-bounded", change).status == 200
    turn = codex.ask("bounded", f"{mocked.url}/api/v1", key, "Tell me a story of 300 words.")
    assert turn.events[-1]["type"] == "turn.failed"
    assert "max_output_tokens" in turn.words
    (record,) = [record for record in mocked.records() if record["client"] == "codex-bounded"]
    assert (record["outcome"], record["error_type"]) == ("incomplete", "output_ceiling")
