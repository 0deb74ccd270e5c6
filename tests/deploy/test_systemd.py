"""The systemd unit: systemd takes it, holds it for well shut in, and the program lives with what can be tried here."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.manifests import DEPLOY
from tests.e2e.program import COMMAND, Process, clean_environment
from tests.tools import needed

UNIT = DEPLOY / "systemd/weighbridge.service"
MOST_EXPOSED = 20  # tenths
SHUT_IN = f"""
import ctypes, os, sys
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0  # NoNewPrivileges=
assert prctl(65, 1, 0, 0, 0) == 0  # MemoryDenyWriteExecute=
os.umask(0o077)
os.execv({sys.executable!r}, {[sys.executable, *COMMAND[1:]]!r} + sys.argv[1:])
"""


def analyze(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [needed("systemd-analyze"), *arguments], capture_output=True, text=True, timeout=30, check=False, cwd=cwd
    )


def installed(folder: Path, text: str) -> Path:
    """The unit with a program that is there: verify looks whether it can be run."""
    unit = folder / UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE))
    return unit


def test_systemd_takes_it(tmp_path: Path) -> None:
    done = analyze("verify", str(installed(tmp_path, UNIT.read_text())), cwd=tmp_path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_see_a_mistake(tmp_path: Path) -> None:
    wrong = UNIT.read_text().replace("DynamicUser=", "DynamicUsers=")
    assert "DynamicUsers" in analyze("verify", str(installed(tmp_path, wrong)), cwd=tmp_path).stderr


@pytest.mark.parametrize(("text", "code"), [(UNIT.read_text(), 0), ("[Service]\nExecStart=/bin/true\n", 1)])
def test_it_is_shut_in(tmp_path: Path, text: str, code: int) -> None:
    unit = installed(tmp_path, text)
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit), cwd=tmp_path)
    assert done.returncode == code, done.stdout


def test_there_is_time_to_drain() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)s", UNIT.read_text(), re.MULTILINE)
    (drain,) = re.findall(r"WEIGHBRIDGE_DRAIN_TIMEOUT=(\d+)s", UNIT.read_text())
    assert int(stop) >= int(drain) + 10


def test_the_server_runs_with_a_credential_and_without_writable_code(tmp_path: Path, canary_key: str) -> None:
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:
        pytest.fail("this kernel (before 6.3) cannot deny writable code to a process")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "upstream-key").write_text(canary_key + "\n")
    env = clean_environment(
        tmp_path, CREDENTIALS_DIRECTORY=str(credentials), WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state")
    )
    launcher = tmp_path / "launch.py"
    launcher.write_text(SHUT_IN)
    command = (sys.executable, str(launcher))
    server = Process(("serve", "--port", "0"), env, r"ready at (\S+)", tmp_path, command)
    assert server.end() == 0
    assert "hardening" not in server.err
