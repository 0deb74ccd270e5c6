"""`make dist`: wheel and sdist hold what they should and nothing else, and the wheel works far from the repository."""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from app import __version__
from tests.deploy.manifests import ROOT
from tests.e2e.program import Process, clean_environment

NAME = f"weighbridge-{__version__}"
ABOUT = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
UNWANTED = re.compile(r"__pycache__|\.(pyc|db|key|env|sqlite3?)$|secrets/(?!\.gitignore)|(^|/)(build|dist|\.venv)/")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make dist` builds it, in another place."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def kept(*folders: str) -> set[str]:
    """What git keeps, or would keep, below these folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


def test_the_wheel_holds_the_program_and_its_papers(dist: Path) -> None:
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"{NAME}.dist-info/METADATA").decode()
        assert wheel.read(f"{NAME}.dist-info/entry_points.txt").decode().split() == [
            "[console_scripts]", "weighbridge", "=", "app.__main__:main",
        ]  # fmt: skip
    assert names == kept("app") | ABOUT
    assert "app/py.typed" in names  # "Typing :: Typed"
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_the_sdist_holds_what_building_and_testing_take(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as sdist:
        names = {name.removeprefix(f"{NAME}/") for name in sdist.getnames()}
    papers = {name for name in kept() if "/" not in name and not name.startswith(".git")} - {"uv.lock"}
    expected = kept("app", "deploy", "docs", "tests", "tools") | papers | {"PKG-INFO", ".gitignore"}
    assert names == expected
    assert not [name for name in names if UNWANTED.search(name)]


def test_it_is_built_the_same_twice(dist: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=50, check=True)
    built, again = ({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in f.iterdir()} for f in (dist, tmp_path))
    assert built == again


@pytest.mark.timeout(300)  # it asks the registry
def test_uv_tool_installs_the_wheel_and_it_runs(dist: Path, tmp_path: Path) -> None:
    """Without the repository: what pip and pipx do as well, in a tenth of the time."""
    uv = Path(sys.executable).with_name("uv")
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    env = {**os.environ, **places, "UV_PYTHON": sys.executable}  # the way to the registry is the environment's
    wheel = dist / f"{NAME}-py3-none-any.whl"
    constraints = ROOT / "requirements-image.txt"  # as it stands: docs/deploy.md says so
    command = [str(uv), "tool", "install", "--constraints", str(constraints), str(wheel)]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    program = (str(tmp_path / "bin/weighbridge"),)
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    assert subprocess.run([*program, "version"], env=env, capture_output=True, check=True).stdout.strip() == (
        __version__.encode()
    )
    server = Process(("serve", "--demo", "--port", "0"), env, r"ready at (\S+)", tmp_path, program)
    assert server.end() == 0
    origin = subprocess.run(
        [str(next((tmp_path / "tools").glob("*/bin/python"))), "-c", "import app; print(app.__file__)"],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(tmp_path) in origin.stdout
