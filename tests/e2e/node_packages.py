"""Packages for Node that tests bring themselves: installed once, and kept between runs."""

import fcntl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.tools import needed


def node_packages(
    name: str,
    packages: Sequence[str],
    config: pytest.Config,
    elsewhere: pytest.TempPathFactory,
    seconds: float = 55,
) -> Path:
    """The folder that has them; a change of the packages wants a new name. Without Node only a developer may go on."""
    cache: pytest.Cache | None = getattr(config, "cache", None)  # -p no:cacheprovider
    return installed(elsewhere.mktemp(name) if cache is None else cache.mkdir(name), packages, seconds)


def installed(folder: Path, packages: Sequence[str], seconds: float) -> Path:
    """The folder, with the packages in it. Whoever wants the same at the same time waits."""
    needed("node")
    needed("npm")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(folder)]
            done = subprocess.run([*install, *packages], capture_output=True, text=True, timeout=seconds, check=False)
            assert done.returncode == 0, done.stderr
            (folder / "installed").touch()
    return folder
