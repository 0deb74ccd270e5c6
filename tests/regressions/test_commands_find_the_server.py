"""Commands find the server that runs, with its settings, and make nothing when they only read (issue 12, F1, F2)."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from app.cli.main import app
from tests.e2e.client import opened
from tests.e2e.program import Process, clean_environment, run

READING = (
    ("keys", "list"),
    ("clients", "list"),
    ("clients", "show", "default"),
    ("groups", "list"),
    ("usage",),
    ("usage", "--by", "request", "--json"),
    ("reconcile",),
    ("db", "current"),
    ("db", "check"),
    ("db", "backup", "copy.db"),
)
CHANGING = (("keys", "revoke", "0123456789"), ("clients", "set", "default", "--rpm", "1"))


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    return directory


@contextmanager
def serving(folder: Path, name: str, runtime: Path | None) -> Iterator[tuple[Process, Path]]:
    """A server whose settings stand in a file of its own, and that file."""
    home = folder / name
    home.mkdir()
    config = home / "weighbridge.toml"
    config.write_text('[storage]\nstate_dir = "data"\n[server]\nport = 0\n')
    env = clean_environment(home, **({} if runtime is None else {"XDG_RUNTIME_DIR": str(runtime)}))
    server = Process(("serve", "--demo", "--config", str(config)), env, r"ready at (\S+)", home)
    try:
        yield server, config
    finally:
        server.end()


def status(url: str, key: str) -> int:
    with opened(f"{url}/key", key, method="GET") as call:
        return call.rest().status


def test_a_command_means_the_server_that_runs(tmp_path: Path, runtime: Path) -> None:
    env = clean_environment(tmp_path, XDG_RUNTIME_DIR=str(runtime))
    with serving(tmp_path, "one", runtime) as (server, config):
        made = run("keys", "create", "alice", env=env)
        assert status(server.url, made.stdout.strip()) == 200
        (entry,) = (runtime / "weighbridge").iterdir()
        assert (entry.stat().st_mode & 0o777, entry.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        shown = {row["setting"]: row for row in json.loads(run("config", "show", "--json", env=env).stdout)}
        assert shown["storage.state_dir"]["value"] == str(config.parent / "data")
        assert shown["server.port"]["from"] == f"file {config}:server.port"
    assert list((runtime / "weighbridge").iterdir()) == []
    assert not (tmp_path / ".local").exists()


def test_of_several_servers_one_must_be_named(tmp_path: Path, runtime: Path) -> None:
    env = clean_environment(tmp_path, XDG_RUNTIME_DIR=str(runtime))
    with serving(tmp_path, "one", runtime) as one, serving(tmp_path, "two", runtime) as two:
        done = run("clients", "list", env=env)
        assert (done.returncode, done.stdout) == (2, "")
        for server, config in (one, two):
            assert f"{server.url}  --config {config}\n" in done.stderr
        for named in ({"WEIGHBRIDGE_CONFIG": str(two[1])}, {"WEIGHBRIDGE_STATE_DIR": str(two[1].parent / "data")}):
            made = run("keys", "create", "bob", env={**env, **named})
            assert status(two[0].url, made.stdout.strip()) == 200
        made = run("keys", "create", "carol", "--config", str(one[1]), env=env)
        assert [status(server.url, made.stdout.strip()) for server in (one[0], two[0])] == [200, 401]
        checked = run("config", "check", env=env)  # is of the next start: `make run` asks it whether there is a key
        assert (checked.returncode, checked.stdout) == (0, "ok\n")
        assert "There is no upstream key" in checked.stderr


def test_the_entry_of_a_server_that_was_killed_counts_for_nothing(tmp_path: Path, runtime: Path) -> None:
    env = clean_environment(tmp_path, XDG_RUNTIME_DIR=str(runtime))
    with serving(tmp_path, "one", runtime) as (server, _):
        server.end(signal.SIGKILL)
    assert len(list((runtime / "weighbridge").iterdir())) == 1
    assert run("clients", "list", env=env).returncode == 1
    with serving(tmp_path, "two", runtime):
        assert run("clients", "list", env=env).returncode == 0


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_runtime_directory_that_others_may_enter_is_none(tmp_path: Path, runtime: Path, mode: int) -> None:
    runtime.chmod(mode)
    with serving(tmp_path, "one", runtime):
        assert list(runtime.iterdir()) == []


def test_an_entry_that_others_may_write_is_none(tmp_path: Path, runtime: Path) -> None:
    env = clean_environment(tmp_path, XDG_RUNTIME_DIR=str(runtime))
    with serving(tmp_path, "one", runtime):
        (entry,) = (runtime / "weighbridge").iterdir()
        entry.chmod(0o666)
        assert run("clients", "list", env=env).returncode == 1


def test_printed_commands_are_complete(tmp_path: Path) -> None:
    env = clean_environment(tmp_path)
    with serving(tmp_path, "one", None) as (server, config):
        (cost,) = re.findall(r"What it cost: (.*)", server.out)
        assert cost == f"weighbridge usage --config {config}"
        assert subprocess.run(["bash", "-c", cost], env=env, check=False).returncode == 0
    state = {"WEIGHBRIDGE_STATE_DIR": str(tmp_path / "a state")}
    moved = Process(("serve", "--demo", "--port", "0"), {**env, **state}, r"ready at (\S+)", tmp_path)
    (cost,) = re.findall(r"What it cost: (.*)", moved.out)
    assert cost == f"WEIGHBRIDGE_STATE_DIR='{tmp_path}/a state' weighbridge usage"
    assert subprocess.run(["bash", "-c", cost], env=env, check=False).returncode == 0
    assert moved.end() == 0


@pytest.mark.parametrize("command", [*READING, *CHANGING], ids=" ".join)
def test_a_command_that_makes_nothing_says_that_nothing_is_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(*command, env=clean_environment(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    sentence = done.stderr.splitlines()
    assert len(sentence) == 1, done.stderr
    assert str(tmp_path / ".local/state/weighbridge") in sentence[0]
    assert list(tmp_path.iterdir()) == []


def test_a_key_made_without_a_server_says_where(tmp_path: Path) -> None:
    done = run("keys", "create", "alice", env=clean_environment(tmp_path))
    assert done.returncode == 0
    assert f"No server runs here, so a new ledger was made in {tmp_path}/.local/state/weighbridge." in done.stderr
    again = run("keys", "create", "alice", env=clean_environment(tmp_path))
    assert "a new ledger" not in again.stderr


def test_reading_a_database_elsewhere_makes_no_state_directory(tmp_path: Path, postgres_url: str) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_DATABASE_URL=postgres_url)
    assert run("clients", "list", "--json", env=env).stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", ["", "relative", "."])
def test_nothing_is_read_from_the_working_directory(tmp_path: Path, home: str) -> None:
    """A configuration there could send the key elsewhere."""
    trap = '[upstream_timeouts]\nconnect = 77\n[[upstream]]\nbase_url = "https://evil.example.com/v1"\n'
    env = {**clean_environment(tmp_path), "HOME": home, "XDG_CONFIG_HOME": "", "XDG_RUNTIME_DIR": "."}
    for place in ("", ".config/weighbridge", "weighbridge", f"{home}/.config/weighbridge", "etc"):
        folder = tmp_path / place if place else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.toml", "weighbridge.toml", "pyproject.toml"):
            (folder / name).write_text(trap)
    (tmp_path / ".env").write_text("WEIGHBRIDGE_UPSTREAM_URL=https://evil.example.com/v1\n")
    tmp_path.chmod(0o700)
    done = subprocess.run(
        ["weighbridge", "config", "show"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "evil" not in done.stdout
    assert "77" not in done.stdout
    assert str(tmp_path) not in done.stdout


def test_every_command_takes_config() -> None:
    def without(command: Any, name: str) -> Iterator[str]:  # noqa: ANN401 - typer's Command is not public
        if isinstance(command, TyperGroup):
            for part, inner in command.commands.items():
                yield from without(inner, f"{name} {part}")
        elif not any("--config" in parameter.opts for parameter in command.params):
            yield name

    assert list(without(get_command(app), "weighbridge")) == []
