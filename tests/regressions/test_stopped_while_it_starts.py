"""A server that is told to stop while it starts does so at once, with 0.

To the first process of a container a signal that it does not catch yet means nothing: `docker stop` waited for ten
seconds and killed it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.program import START_SECONDS, clean_environment

LAUNCH = """
import os, signal, sys

begun = sys.argv.pop(1)

def tell(event, args):
    if event == "import" and args[0] == begun:
        os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(tell)
from app.__main__ import main
main()
"""


def test_stopped_before_it_starts(tmp_path: Path) -> None:
    """As the image starts it: with SIGTERM blocked, so that one that comes before all else waits."""
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    told = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); from app.__main__ import main; main()"
    command = ["env", "--block-signal=TERM", sys.executable, "-c", told]
    for arguments, code in ((["serve", "--demo", "--port", "0"], 0), (["usage"], -15)):
        done = subprocess.run([*command, *arguments], env=env, capture_output=True, timeout=START_SECONDS, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.parametrize("begun", ["typer", "app.serve.run", "app.main"])
def test_stopped_while_it_starts(begun: str, tmp_path: Path) -> None:
    """At the import of several parts: of the command line, of the run, of what opens the ledger."""
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    command = [sys.executable, "-c", LAUNCH, begun, "serve", "--demo", "--port", "0"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
