"""What the command line says of itself, and how soon."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from app import __version__
from tests.e2e.program import COMMAND, clean_environment, run

COMMANDS = (
    "serve",
    "keys",
    "clients",
    "groups",
    "limits",
    "connect",
    "run",
    "usage",
    "reconcile",
    "doctor",
    "config",
    "db",
    "mock-upstream",
    "version",
)
PROMISED_SECONDS = 0.3


def test_each_command_explains_itself(tmp_path: Path) -> None:
    env = clean_environment(tmp_path)
    overview = run("--help", env=env).stdout
    places = [overview.index(f"\n  {command} ") for command in COMMANDS]
    assert places == sorted(places)
    for arguments in (["serve"], ["usage"], ["keys", "create"]):
        assert "--config" in run(*arguments, "--help", env=env).stdout


@pytest.mark.parametrize(
    ("arguments", "usage", "argument"),
    [
        (["keys", "revoke"], "[OPTIONS] KEY_ID", "  KEY_ID  The id of the key, as `keys list` shows it.  [required]"),
        (["prices"], "[OPTIONS] [MODEL]", "  MODEL  The name of a model, as upstream calls it."),
        (["run"], "[OPTIONS] COMMAND...", "  COMMAND  The command and its arguments"),
    ],
    ids=" ".join,
)
def test_arguments_are_shown_plainly(tmp_path: Path, arguments: list[str], usage: str, argument: str) -> None:
    said = run(*arguments, "-h", env=clean_environment(tmp_path)).stdout
    assert said.startswith(f"Usage: weighbridge {' '.join(arguments)} {usage}\n")
    assert argument in said


@pytest.mark.parametrize("arguments", [["version"], ["--version"], ["version", "--json"]], ids=" ".join)
def test_version(tmp_path: Path, arguments: list[str]) -> None:
    said = run(*arguments, env=clean_environment(tmp_path)).stdout
    assert (json.loads(said)["version"] if len(arguments) > 1 else said.strip()) == __version__


def test_help_is_quick(tmp_path: Path) -> None:
    """The best of five, against three times the promise: the machine has other things to do."""

    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], env=clean_environment(tmp_path), capture_output=True, check=True)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(5)) < 3 * PROMISED_SECONDS


def test_help_imports_no_world(tmp_path: Path) -> None:
    """What makes it quick."""
    code = (
        "import sys; from app.cli.main import app; "
        "print([name for name in ('fastapi', 'sqlalchemy', 'httpx2', 'uvicorn', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([COMMAND[0], "-c", code], env=clean_environment(tmp_path), capture_output=True, text=True)  # noqa: PLW1510
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    env = clean_environment(tmp_path)
    for arguments in (["--help"], ["version"], ["config", "show"], ["config", "example"], ["config", "check"]):
        assert run(*arguments, env=env).returncode == 0
    assert list(tmp_path.iterdir()) == []
