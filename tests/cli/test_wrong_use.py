"""What people mistype is told in one line that says what to do, and changes nothing."""

import socket
from pathlib import Path

import pytest

from tests.e2e.program import clean_environment, run

WHOLE_KEY = "sk-wb-" + 56 * "0"
WRONG = [
    (
        ["usage", "--since", "2026-11-24", "--until", "2026-11-01"],
        "'2026-11-01' is not later than --since '2026-11-24'.",
    ),
    (["usage", "--since", "1h", "--until", "1h"], "'1h' is not later than --since '1h'."),
    (["usage", "--by", "foo"], "'foo' is not one of 'client', 'model', 'day', 'hour', 'request'."),
    (["serve", "--port", "abc"], "must be a number"),
    (["serve", "--demo", "--workers", "0"], "must be greater than or equal to 1"),
    (["keys", "revoke", "a/b"], "this is not a key id. `weighbridge keys list` shows key ids"),
    (["keys", "rotate", ".."], "this is not a key id. `weighbridge keys list` shows key ids"),
    (["clients", "show", WHOLE_KEY], "it looks like a key, and names are shown everywhere"),
    (["groups", "set", "a/b"], "begin with a letter or digit"),
    (["db", "migrate-to", "mysql://db/x"], "must start with postgresql://"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda value: "-".join(value) if type(value) is list else "")
def test_wrong_use(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run(*arguments, env=clean_environment(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("Error: Invalid value for ")
    assert done.stderr.endswith(f"{said}\n")
    assert WHOLE_KEY not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_lists_in_which_nothing_is_say_how_to_begin(tmp_path: Path) -> None:
    assert run("db", "upgrade", env=clean_environment(tmp_path)).returncode == 0
    for command in ("keys", "clients", "groups"):
        done = run(command, "list", env=clean_environment(tmp_path))
        assert len(done.stdout.splitlines()) == 1
        assert done.stderr.startswith(f"There are no {command} yet. `weighbridge ")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("mock-upstream", "--port", str(port), env=clean_environment(tmp_path))
    assert done.returncode == 1
    where = f"weighbridge mock-upstream: cannot listen on 127.0.0.1:{port}: "
    assert done.stderr == f"{where}Address already in use. Choose another port with --port.\n"
