"""`connect`: what it prints is pasted into an empty home and run with the real program (contract.md)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.node_packages import node_packages
from tests.e2e.program import Gateway, clean_environment, run
from tests.e2e.python_packages import python_packages
from tests.tools import needed

MODEL = "openai/gpt-5.1"


def blocks(gateway: Gateway, program: str) -> list[dict[str, str]]:
    arguments = ("connect", program, "--key", "-", "--model", MODEL, "--json")
    done = run(*arguments, env=gateway.env, stdin=f"{gateway.key}\n")
    assert (done.returncode, done.stderr) == (0, "")
    shown: list[dict[str, str]] = json.loads(done.stdout)["blocks"]
    return shown


def paste(gateway: Gateway, program: str, home: Path, path: str = "") -> str:
    """What it prints when each block is pasted where it belongs. `path` holds programs that come before others."""
    script = []
    for block in blocks(gateway, program):
        match block["language"]:
            case "sh":
                script.append(block["text"])
            case "python":
                (home / "hello.py").write_text(block["text"])
                script.append("python hello.py")
            case "javascript":
                (home / "hello.mjs").write_text(block["text"])
                script.append("node hello.mjs")
    env = clean_environment(home)
    env["PATH"] = os.pathsep.join((path, env["PATH"])) if path else env["PATH"]
    done = subprocess.run(
        ["bash", "-e"],
        input="\n".join(script),
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answered(gateway: Gateway, program: str, home: Path, path: str = "") -> dict[str, Any]:
    """The record of the one call that it makes."""
    before = gateway.records()
    printed = paste(gateway, program, home, path)
    record = gateway.settled(before)
    assert (record["model_requested"], record["outcome"], record["client"]) == (MODEL, "completed", "default")
    assert printed.strip()
    return record


@pytest.mark.parametrize("program", ["openai-python", "agents", "openrouter"])
def test_python_programs(mocked: Gateway, tmp_path: Path, program: str) -> None:
    answered(mocked, program, tmp_path)


def test_the_agents_sdk_keeps_our_key_to_itself(mocked: Gateway, tmp_path: Path) -> None:
    """By itself it would send its traces to OpenAI, with the key that it was given."""
    shown = next(block["text"] for block in blocks(mocked, "agents") if block["language"] == "python")
    asks = "from agents.tracing import get_trace_provider\nassert get_trace_provider()._disabled, 'tracing is on'\n"
    (tmp_path / "hello.py").write_text(shown.partition("print(")[0] + asks)
    env = clean_environment(tmp_path, OPENAI_BASE_URL=f"{mocked.url}/api/v1", OPENAI_API_KEY=mocked.key)
    done = subprocess.run(
        [sys.executable, "hello.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_curl(mocked: Gateway, tmp_path: Path) -> None:
    needed("curl")
    assert answered(mocked, "curl", tmp_path)["stream"]


def test_env_is_for_any_program(mocked: Gateway, tmp_path: Path) -> None:
    (block,) = blocks(mocked, "env")
    shown = subprocess.run(
        ["bash", "-ec", f"{block['text']}\nenv"], env={}, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {f"OPENAI_BASE_URL={mocked.url}/api/v1", f"OPENAI_API_KEY={mocked.key}"} <= set(shown)


@pytest.fixture(scope="module")
def others(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with what is too much for the developers' own."""
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)  # -p no:cacheprovider
    return python_packages("connect-1", ["langchain-openai", "llm"], cache, tmp_path_factory.mktemp("others"))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("program", ["langchain", "llm"])
def test_programs_of_another_environment(mocked: Gateway, tmp_path: Path, others: Path, program: str) -> None:
    answered(mocked, program, tmp_path, str(others))


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("program", "packages"), [("openai-node", ["openai@7"]), ("ai-sdk", ["node@24", "ai@7", "@ai-sdk/openai@4"])]
)
def test_node_programs(
    mocked: Gateway,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
    program: str,
    packages: list[str],
) -> None:
    folder = node_packages(f"connect-{program}-1", packages, pytestconfig, tmp_path_factory, seconds=200)
    (tmp_path / "node_modules").symlink_to(folder / "node_modules")
    answered(mocked, program, tmp_path, str(folder / "node_modules/.bin"))


# -- what it says --------------------------------------------------------------------------------------------------


def test_without_a_key_it_says_where_one_goes(mocked: Gateway) -> None:
    done = mocked.command("connect", "env")
    assert done.stdout.endswith(f"export OPENAI_BASE_URL={mocked.url}/api/v1\nexport OPENAI_API_KEY=sk-wb-...\n")
    assert "keys create" in done.stderr


def test_other_machines_are_told_their_address(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway("--host", "0.0.0.0")  # noqa: S104 - as people do
    others = gateway.admin("GET", "/server").json["other_urls"]
    done = gateway.command("connect", "env")
    assert f"export OPENAI_BASE_URL={gateway.url}/api/v1\n" in done.stdout
    assert all(url in done.stderr for url in others)


def test_a_key_is_never_an_argument(tmp_path: Path) -> None:
    key = "sk-wb-" + 56 * "0"
    for arguments, stdin in ((("--key", key), None), (("--key", "-"), f"{key}\n"), (("--key", "-"), "\n")):
        done = run("connect", "env", *arguments, env=clean_environment(tmp_path), stdin=stdin)
        assert (done.returncode, done.stdout, key in done.stderr) == (2, "", False)


def test_a_model_is_a_name(tmp_path: Path) -> None:
    for model in ("$(id)", "a'b", 'a"b', "a\nb", ""):
        assert run("connect", "curl", "--model", model, env=clean_environment(tmp_path)).returncode == 2


def test_without_a_server_it_says_what_the_settings_say_and_makes_nothing(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_PUBLIC_URL="https://gateway.example.com")
    done = run("connect", "codex", "--json", env=env)
    shown = json.loads(done.stdout)
    assert shown["base_url"] == "https://gateway.example.com/api/v1"
    assert shown["model"].startswith("openai/")  # OpenRouter's names begin with the vendor
    assert "No server is running" in done.stderr
    assert list(tmp_path.iterdir()) == []
