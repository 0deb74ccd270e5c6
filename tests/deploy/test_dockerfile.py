"""What can be said of the image without an engine. The rest is `make test-image`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app import __version__
from tests.deploy.manifests import DEPLOY, ROOT, tool
from tests.deploy.stand_ins import RECIPES, STAND_INS
from tests.e2e.program import Gateway, clean_environment

DOCKERFILE = (ROOT / "Dockerfile").read_text()
HEALTHCHECK = DEPLOY / "docker/healthcheck.py"


def unready(state_dir: Path) -> str | None:
    """What the HEALTHCHECK says; None while all is well."""
    command = [sys.executable, "-IS", str(HEALTHCHECK)]
    env = clean_environment(state_dir, WEIGHBRIDGE_STATE_DIR=str(state_dir))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode in {0, 1}
    assert "Traceback" not in done.stderr
    return done.stderr if done.returncode else None


@pytest.mark.parametrize("path", ["Dockerfile", *(f"tests/deploy/images/{name}/Dockerfile" for name in STAND_INS)])
def test_hadolint_finds_nothing(path: str) -> None:
    assert tool("hadolint", "--failure-threshold", "info", path) == ""


def test_hadolint_would_see_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && apt-get install x\n")
    with pytest.raises(AssertionError, match="DL3008"):
        tool("hadolint", "Dockerfile", cwd=tmp_path)


def test_it_builds_without_a_frontend_from_elsewhere_and_takes_its_base_as_an_argument() -> None:
    assert not re.search(r"^#\s*syntax\s*=", DOCKERFILE, re.MULTILINE | re.IGNORECASE)
    froms = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert set(froms) == {"${PYTHON_IMAGE}", "scratch"}
    assert "--mount" not in DOCKERFILE


def test_it_installs_by_hash_only() -> None:
    installs = re.findall(r"pip(?: --python \S+)? install[^&\n]*", DOCKERFILE)
    assert installs
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []


def test_its_version_is_ours() -> None:
    assert re.findall(r"^ARG VERSION=(.+)$", DOCKERFILE, re.MULTILINE) == [__version__]


def test_the_builder_sees_only_what_is_copied() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {line[1:] for line in rules if line.startswith("!")}
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY (?!--).*", DOCKERFILE, re.MULTILINE)]
    assert let_in == {name for line in copied for name in line}
    assert all((ROOT / name).exists() for name in let_in)


def test_what_a_run_leaves_behind_is_kept_from_the_builder() -> None:
    """Also where it lies in a folder that is copied: what git ignores as such, the builder does not see."""
    _, _, left = (ROOT / ".gitignore").read_text().partition("# What a run leaves behind")
    names = [line for line in left.splitlines()[1:] if line and not line.startswith("/")]
    assert names
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert [name for name in names if f"**/{name}" not in ignored] == []


def test_the_healthcheck_knows_a_ready_server_from_none(gateway: Gateway, tmp_path: Path) -> None:
    assert unready(gateway.state_dir) is None
    assert "FileNotFoundError" in (unready(tmp_path) or "")
    (tmp_path / "server.json").write_text('{"url": "http://127.0.0.1:1"}')
    assert "ConnectionRefusedError" in (unready(tmp_path) or "")
    (tmp_path / "server.json").write_text(f'{{"url": "{gateway.url}/no/such"}}')
    assert unready(tmp_path) is None  # the path is its own


def test_no_script_is_broken() -> None:
    for script in [*(DEPLOY / "docker").glob("*.sh"), *RECIPES.rglob("*.sh")]:
        assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
