"""`weighbridge config show|check|example`, as typed."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import certifi
import pytest
from typer.testing import CliRunner, Result

from app.cli.config import app
from app.settings.model import sections

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _a_machine_without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("WEIGHBRIDGE_", "OPENROUTER_", "XDG_", "LOG_LEVEL"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environ)


def uncommented(example: str) -> str:
    """The example with the samples of settings that have no default switched on."""
    lines = (line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in example.splitlines())
    return "\n".join(lines)


def test_check_says_ok_on_stdout_and_talks_on_stderr() -> None:
    result = run("check")
    assert (result.exit_code, result.stdout) == (0, "ok\n")
    assert "no upstream key" in result.stderr
    assert run("check", OPENROUTER_API_KEY="sk-1").stderr == ""


def test_check_prints_every_fault_and_exits_2(tmp_path: Path) -> None:
    config = tmp_path / "w.toml"
    config.write_text("[server]\nprot = 1")
    result = run("check", "--config", config, WEIGHBRIDGE_PORT="x")
    assert (result.exit_code, result.stdout) == (2, "")
    assert set(result.stderr.splitlines()) == {
        f"file {config}:server.prot: there is no such setting; did you mean port?",
        "env WEIGHBRIDGE_PORT: must be a whole number",
    }


def test_the_example_passes_the_check_as_it_stands(tmp_path: Path) -> None:
    example = run("example").stdout
    config = tmp_path / "w.toml"
    config.write_text(example)
    result = run("check", "--config", config)
    assert (result.exit_code, result.stdout) == (0, "ok\n")
    rows = json.loads(run("show", "--json", "--config", config).stdout)
    assert [(row["setting"], row["value"]) for row in rows] == [
        (row["setting"], row["value"]) for row in json.loads(run("show", "--json").stdout)
    ], "what stands in the example is the default"


def test_the_example_with_all_its_samples_switched_on_is_right_too(tmp_path: Path) -> None:
    text = uncommented(run("example").stdout)
    for name in ("upstream-key", "admin-key", "proxy-password"):
        (tmp_path / name).write_text("a-key-of-20-character")
        text = text.replace(f"/run/secrets/{name}", name)
    text = text.replace("/etc/ssl/corporate-ca.pem", certifi.where())
    config = tmp_path / "w.toml"
    config.write_text(text)
    result = run("check", "--config", config)
    assert (result.exit_code, result.output) == (0, "ok\n")
    written = tomllib.loads(text)
    written["upstream"] = written["upstream"][0]
    for section, model in sections().items():
        assert written[section].keys() == model.model_fields.keys() - {"key", "admin_key", "proxy_password"}
    assert written["prices"]


def test_show_gives_each_value_and_its_origin(tmp_path: Path) -> None:
    config = tmp_path / "w.toml"
    config.write_text("[ledger]\nretention_days = 7")
    result = run("show", "--json", "--config", config, WEIGHBRIDGE_PORT="9000", OPENROUTER_API_KEY="sk-canary")
    assert result.exit_code == 0
    rows = {row.pop("setting"): row for row in json.loads(result.stdout)}
    assert rows["server.port"] == {"value": 9000, "from": "env WEIGHBRIDGE_PORT"}
    assert rows["ledger.retention_days"] == {"value": 7, "from": f"file {config}:ledger.retention_days"}
    assert rows["log.level"] == {"value": "info", "from": "default"}
    assert rows["upstream.key"] == {"value": "set (from env OPENROUTER_API_KEY)", "from": "env OPENROUTER_API_KEY"}
    assert rows["server.admin_key"] == {"value": None, "from": "default"}


def test_show_as_text_has_one_line_a_setting_and_no_secret(canary_key: str) -> None:
    result = run(
        "show",
        OPENROUTER_API_KEY=canary_key,
        WEIGHBRIDGE_ADMIN_KEY=canary_key,
        WEIGHBRIDGE_DATABASE_URL=f"postgresql://w:{canary_key}@db/w",
    )
    assert result.exit_code == 0
    assert canary_key not in result.output
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines.keys() == {f"{section}.{key}" for section, model in sections().items() for key in model.model_fields}
    assert "set (from env OPENROUTER_API_KEY)" in lines["upstream.key"]
    assert "postgresql://w:***@db/w" in lines["storage.database_url"]
    assert lines["storage.redis_url"].split() == ["storage.redis_url", "-", "default"]


def test_the_command_is_imported_without_the_settings() -> None:
    """`weighbridge --help` must stay quick: pydantic comes in only when a command runs."""
    script = "import sys, app.cli.config; print([name for name in sys.modules if name.startswith('pydantic')])"
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    )
    assert finished.stdout == "[]\n"
