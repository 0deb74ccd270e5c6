"""A state directory that cannot be used is told in a sentence, not in a traceback: often a mount of root's."""

from pathlib import Path

import pytest

from tests.e2e.program import clean_environment, run


@pytest.mark.parametrize("command", [("serve", "--demo", "--port", "0"), ("keys", "list")], ids=" ".join)
def test_it_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    state_dir = file / "state"
    done = run(*command, env=clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(state_dir)))
    assert done.returncode == 1
    assert f"the state directory {state_dir} cannot be used: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
