"""docs/upstreams.md: what it says to set is taken, and a gateway can stand behind another."""

import re
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, ASK_STREAM
from tests.e2e.program import Gateway, clean_environment

PAGE = (Path(__file__).parents[2] / "docs/upstreams.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)weighbridge serve\n```", PAGE, re.DOTALL | re.MULTILINE)
TABLES = re.findall(r"^```toml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


def check(folder: Path, exports: str, *arguments: str) -> str:
    env = clean_environment(folder)
    command = f"{exports}\nweighbridge config check {' '.join(arguments)}"
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("exports", SHELL)
def test_what_is_exported_is_enough_to_serve(exports: str, tmp_path: Path) -> None:
    assert check(tmp_path, exports) == "ok\n"


@pytest.mark.parametrize("table", TABLES, ids=range(len(TABLES)))
def test_the_tables_are_taken(table: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-secret-for-this-test\n")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    text = re.sub(r'"/etc/[^"]+\.pem"', f'"{tmp_path}/ca.pem"', re.sub(r'"/run/[^"]+"', f'"{tmp_path}/secret"', table))
    (tmp_path / "weighbridge.toml").write_text(text)
    key = "" if "key_file" in table else "export WEIGHBRIDGE_UPSTREAM_KEY=sk-or-v1-for-this-test"
    assert check(tmp_path, key, "--config", "weighbridge.toml") == "ok\n"


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
