"""What is typed wrongly ends with exit code 2 and a sentence that names the option, whether a server runs or not."""

from pathlib import Path

import pytest

from tests.e2e.program import clean_environment, run

WRONG = {
    ("usage", "--since", "yesterday"): "--since",
    ("usage", "--until", "13-13-2026"): "--until",
    ("keys", "create", "al ice"): "CLIENT",
    ("keys", "create", ""): "CLIENT",
    ("keys", "create", "alice", "--expires", "0d"): "--expires",
    ("keys", "create", "alice", "--expires", "99999d"): "--expires",
    ("keys", "rotate", "0123456789", "--grace", "5000d"): "--grace",
    ("clients", "set", "alice", "--on-disconnect", "drain:x"): "--on-disconnect",
    ("clients", "set", "alice", "--models", ""): "--models",  # of a variable that is not set; it allowed every model
    ("groups", "set", "students", "--models", " , "): "--models",
    ("clients", "set", "alice", "--models", "a\tb"): "--models",
    ("clients", "set", "alice", "--budget-usd", "5/day,none"): "--budget-usd",  # it took all budgets away
    ("groups", "set", "none"): "GROUP",  # `clients set --group none` would never put anybody in
}


@pytest.mark.parametrize(("command", "named"), WRONG.items(), ids=[" ".join(command) for command in WRONG])
def test_it_is_exit_code_2(tmp_path: Path, command: tuple[str, ...], named: str) -> None:
    done = run(*command, env=clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state")))
    assert done.returncode == 2
    assert named in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert not (tmp_path / "state").exists()


def test_a_backup_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    run("keys", "create", "alice", env=env)
    done = run("db", "backup", str(tmp_path / "none" / "copy.db"), env=env)
    assert done.returncode == 1
    assert done.stderr == f"weighbridge: there is no directory {tmp_path / 'none'}\n"


def test_one_budget_where_a_list_is_wanted(tmp_path: Path) -> None:
    """It "must be a valid tuple", which no TOML file has."""
    config = tmp_path / "weighbridge.toml"
    config.write_text('[client_defaults]\nbudget_usd = "5/day"\n')
    done = run("config", "check", "--config", str(config), env=clean_environment(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"file {config}:client_defaults.budget_usd: must be a list\n"
