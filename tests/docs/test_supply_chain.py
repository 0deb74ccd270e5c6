"""What is installed: nothing that runs by itself, nothing that the locks do not name, and a true list of it."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = Path(str(importlib.metadata.distribution("uvicorn").locate_file("")))
EXPECTED_PTH = {
    "_editable_impl_weighbridge.pth": "the project itself, where it is developed",
    "distutils-precedence.pth": "setuptools, where a test tool brings it",
}
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^ ]+)", re.MULTILINE)


def closure() -> set[str]:
    """The distributions that the gateway needs at run time, as they are installed here."""
    return {name for name, _ in PIN.findall((ROOT / "requirements.txt").read_text()) if installed(name)}


def installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_nothing_of_what_the_gateway_needs_runs_at_every_start_of_python() -> None:
    """A .pth file does: that is how keys were stolen from another gateway's users (LiteLLM 1.82.7)."""
    found = [
        (name, path.name)
        for name in closure()
        for path in importlib.metadata.files(name) or ()
        if path.suffix == ".pth" or path.name in {"sitecustomize.py", "usercustomize.py"}
    ]
    assert found == []
    assert len(closure()) > 20


def test_no_other_file_runs_at_every_start_of_python() -> None:
    assert {path.name for path in SITE.glob("*.pth")} <= set(EXPECTED_PTH)
    assert not [path for path in SITE.iterdir() if path.stem in {"sitecustomize", "usercustomize"}]


def test_what_is_installed_is_what_is_locked() -> None:
    locked = dict(PIN.findall((ROOT / "requirements.txt").read_text()))
    assert {name: importlib.metadata.version(name) for name in closure()} == {name: locked[name] for name in closure()}


def test_every_pin_has_its_hashes() -> None:
    for lock in sorted(ROOT.glob("requirements*.txt")):
        blocks = re.split(r"\n(?=[a-z0-9])", lock.read_text())[1:]
        assert blocks, lock.name
        assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == [], lock.name


def sbom(*locks: str) -> bytes:
    command = [sys.executable, "tools/sbom.py", *locks]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout


def test_the_list_of_components_is_the_lock() -> None:
    made = sbom("requirements.txt")
    assert made == sbom("requirements.txt"), "the same locks give the same bytes"
    document = json.loads(made)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    pins = dict(PIN.findall((ROOT / "requirements.txt").read_text()))
    assert {part["name"]: part["version"] for part in document["components"]} == pins
    refs = {part["bom-ref"] for part in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
    assert {entry["ref"] for entry in document["dependencies"]} == refs
    needs = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    assert {on for found in needs.values() for on in found} <= refs
    (own,) = [ref for ref in refs if ref.startswith("pkg:pypi/weighbridge@")]
    assert any(ref.startswith("pkg:pypi/uvicorn@") for ref in needs[own])
    lock = (ROOT / "requirements.txt").read_text()
    assert sum(len(part["hashes"]) for part in document["components"]) == lock.count("--hash=sha256:")


@pytest.mark.parametrize("text", ["fastapi>=1", "fastapi==1\n    --hash=md5:0", "-e .", "--index-" + "url x"])
def test_what_is_no_lock_gives_no_list(text: str, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(text)
    with pytest.raises(subprocess.CalledProcessError):
        sbom(str(lock))
