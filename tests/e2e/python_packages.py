"""Python packages that tests bring themselves, in a virtual environment that is kept between runs."""

import fcntl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

INSTALL_SECONDS = 150


def python_packages(name: str, packages: Sequence[str], cache: pytest.Cache | None, elsewhere: Path) -> Path:
    """The folder of programs of an environment that has them; a change of the packages wants a new name.

    Whoever wants the same at the same time waits.
    """
    folder = elsewhere if cache is None else cache.mkdir(name)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            _run(sys.executable, "-m", "venv", str(folder / "venv"))
            _run(str(folder / "venv/bin/python"), "-m", "pip", "install", "-q", *packages)
            (folder / "installed").touch()
    return folder / "venv/bin"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
