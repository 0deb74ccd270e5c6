"""`-h`, and shell completion installed by one command (issue 12, F8)."""

import subprocess
from pathlib import Path

from tests.e2e.program import clean_environment, run

COMPLETE = """
. "$HOME/.bashrc"
COMP_WORDS=(weighbridge {words}); COMP_CWORD={place}
_weighbridge_completion weighbridge
echo "${{COMPREPLY[@]}}"
"""


def test_h_is_help_for_every_command(tmp_path: Path) -> None:
    env = clean_environment(tmp_path)
    for command in ([], ["serve"], ["keys"], ["keys", "create"], ["usage"], ["config", "show"]):
        short, long = run(*command, "-h", env=env), run(*command, "--help", env=env)
        assert (short.returncode, short.stdout) == (0, long.stdout)
        assert "Usage: weighbridge" in short.stdout


def test_one_command_installs_completion_in_bash(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, SHELL="/bin/bash")
    installed = run("--install-completion", "bash", env=env)
    assert installed.returncode == 0, installed.stderr

    def offered(words: str, place: int) -> list[str]:
        script = COMPLETE.format(words=words, place=place)
        done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert offered("rec", 1) == ["reconcile"]
    assert set(offered("keys ''", 2)) >= {"create", "list", "revoke", "rotate"}
    assert "--since" in offered("usage --s", 2)
