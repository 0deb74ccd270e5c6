"""docs/upstreams.md: what it says to set is taken, and a gateway can stand behind another."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, ASK_STREAM
from tests.e2e.program import Gateway, clean_environment

PAGE = (Path(__file__).parents[2] / "docs/upstreams.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)weighbridge serve\n```", PAGE, re.DOTALL | re.MULTILINE)
TABLES = re.findall(r"^```toml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
KEY_FILE = "/run/secrets/azure-key"


def check(folder: Path, exports: str, *arguments: str) -> str:
    env = clean_environment(folder)
    command = f"{exports}\nweighbridge config check {' '.join(arguments)}"
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("exports", SHELL)
def test_what_is_exported_is_enough_to_serve(exports: str, tmp_path: Path) -> None:
    assert check(tmp_path, exports) == "ok\n"


def test_the_tables_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-key-of-azure-for-this-test\n")
    text = "\n".join(TABLES)
    assert KEY_FILE in text
    (tmp_path / "weighbridge.toml").write_text(text.replace(KEY_FILE, str(tmp_path / "key")))
    assert check(tmp_path, "", "--config", "weighbridge.toml") == "ok\n"


def test_a_gateway_behind_a_gateway(mocked: Gateway, start_gateway: GatewayStarter) -> None:
    mine = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mocked.url}/api/v1", OPENROUTER_API_KEY=mocked.key)
    mine.secrets["upstream key"] = mocked.key
    for body in (ASK, ASK_STREAM):
        before = mocked.records()
        answer = mine.post(body)
        assert (answer.status, answer.whole) == (200, True)
        theirs, ours = mocked.settled(before), mine.records()[-1]
        assert {r["outcome"] for r in (theirs, ours)} == {"completed"}
        assert [theirs[name] for name in ("response_id", "total_tokens", "cost_usd")] == [
            ours[name] for name in ("response_id", "total_tokens", "cost_usd")
        ]
    states = {f["check"].rpartition(": ")[2]: f["state"] for f in mine.json_of("doctor", "--upstream-only")}
    assert states["key"] == "ok"
