"""What SDKs do with our refusals: each sends as few requests as it can be brought to (protocol.md 5.2).

Counted is on the way to the gateway. Nobody storms: who asks again waits as long as we say. test_codex.py is the same
for Codex.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.node_packages import node_packages
from tests.e2e.program import Mock, clean_environment
from tests.e2e.refusing import LONG_QUESTION, MODEL, PAUSE_SECONDS, QUESTION, STATUS, Refusing, refusing

PACKAGES = ("openai@7", "ai@7", "@ai-sdk/openai@4", "@openrouter/sdk@1")
HERE = Path(__file__).parent
PYTHON = ("openai-python", "openrouter-python")
NODE = ("openai-node", "ai-sdk", "openrouter-node")
FOR_AN_HOUR = ("openrouter-python", "openrouter-node")
"""Their SDKs try every 5xx again for so long: they are stopped before that."""
IN_PYTHON = (sys.executable, "-m", "tests.e2e.refused", MODEL)
STOP_SECONDS = 11
LONGEST_SECONDS = 50
EARLY_SECONDS = 0.05
"""So much earlier than we said a timer of theirs may fire."""

ONCE = dict.fromkeys(STATUS, 1)
OPENAI = {**ONCE, "rate_limited": 3, "for_a_moment": 2, **dict.fromkeys(PAUSE_SECONDS, 3)}
SENT = {
    "curl": ONCE,
    "openai-python": OPENAI,
    "agents-python": OPENAI,
    "openai-node": OPENAI,
    "ai-sdk": {**OPENAI, "insufficient_quota": 3},  # knows nothing of x-should-retry
    "openrouter-python": ONCE,
    "openrouter-node": ONCE,
}

WORDS = {
    "authentication": "This API key is revoked.",
    "model_not_allowed": f"may not use the model '{MODEL}'",
    "payload_too_large": "The request body is over",
    "insufficient_quota": "budget of 0 tokens in all is spent",
    "rate_limited": "Please try again in 1s.",
    "storage_unavailable": "Limits cannot be checked",
    "overloaded": "has as many calls as it may have",
    "draining": "This server is stopping.",
}

pytestmark = pytest.mark.timeout(180)  # the first test installs and starts all of it

Told = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def house(mock_process: Mock, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refusing]:
    with refusing(tmp_path_factory.mktemp("refusing"), mock_process, canary_key, *SENT) as made:
        yield made


@pytest.fixture(scope="module")
def sdks(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = node_packages("node-sdks-2", PACKAGES, pytestconfig, tmp_path_factory)
    shutil.copy(HERE / "refused.mjs", folder)
    return folder


@pytest.fixture(scope="module")
def told(sdks: Path, house: Refusing) -> Told:
    """What each SDK made of each refusal. All of them try at once, since most of it is waiting."""
    with ThreadPoolExecutor() as pool:
        python = pool.submit(ask_all, house, PYTHON, IN_PYTHON, HERE.parents[1])
        return ask_all(house, NODE, ["node", "refused.mjs", MODEL], sdks) | python.result()


@pytest.fixture(scope="module")
def told_agents(house: Refusing) -> Told:
    """The same of the Agents SDK, whose import alone takes five seconds."""
    return ask_all(house, ["agents-python"], IN_PYTHON, HERE.parents[1])


def ask_all(house: Refusing, clients: Sequence[str], command: Sequence[str], folder: Path) -> Told:
    cases = [(who, why) for who in clients for why in STATUS]
    work = []
    for who, why in cases:
        case = house.cases[who, why]
        question = LONG_QUESTION if why == "payload_too_large" else QUESTION
        work.append((who, case.url, case.key, question, STOP_SECONDS if who in FOR_AN_HOUR else LONGEST_SECONDS))
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(folder),
        input=json.dumps(work),
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS + 9,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("why", STATUS)
@pytest.mark.parametrize("who", [*PYTHON, *NODE])
def test_an_sdk_sends_no_more_than_it_must(told: Told, house: Refusing, who: str, why: str) -> None:
    check(house, told, who, why)


@pytest.mark.long
@pytest.mark.parametrize("why", STATUS)
def test_the_agents_sdk_sends_as_much_as_the_sdk_below_it(told_agents: Told, house: Refusing, why: str) -> None:
    check(house, told_agents, "agents-python", why)


def check(house: Refusing, told: Told, who: str, why: str) -> None:
    way, said = house.cases[who, why].way, told[who, why]
    assert way.statuses[0] == STATUS[why]
    if who in FOR_AN_HOUR and why in PAUSE_SECONDS:
        assert said["status"] is None
        assert way.sent > 1
        assert min(way.pauses) >= PAUSE_SECONDS[why] - EARLY_SECONDS
        return
    assert way.sent == len(way.statuses) == SENT[who][why], way.statuses
    assert said["status"] == way.statuses[-1]
    waited = PAUSE_SECONDS.get(why, 1 if STATUS[why] == 429 else 0)  # a slot may be free in a second
    assert min(way.pauses, default=waited) >= waited - EARLY_SECONDS
    if why == "for_a_moment":
        assert way.statuses[1:] == [200] * (way.sent - 1)
    else:
        assert WORDS[why] in said["said"]


@pytest.mark.parametrize("why", STATUS)
def test_curl_asks_once_and_shows_why(house: Refusing, why: str, tmp_path: Path) -> None:
    case = house.cases["curl", why]
    body = tmp_path / "body"
    body.write_text(json.dumps({"model": MODEL, "input": LONG_QUESTION if STATUS[why] == 413 else QUESTION}))
    config = tmp_path / "curl"
    config.write_text(f'header = "Authorization: Bearer {case.key}"\nheader = "Content-Type: application/json"\n')
    command = ["curl", "-sS", "-K", str(config), "-d", f"@{body}", f"{case.url}/responses"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    told_why = json.loads(done.stdout)["error"]["metadata"]["error_type"]
    assert told_why == ("rate_limited" if why == "for_a_moment" else why)
    assert case.way.sent == SENT["curl"][why]
