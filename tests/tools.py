"""Programs that tests need and pip cannot bring. `.ci/run` installs them; without one a developer may go on."""

import os
import shutil

import pytest


def needed(*names: str) -> str:
    """The path of the first of these programs. Without one the test fails in CI and is skipped elsewhere."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
    found = next(filter(None, (shutil.which(name, path=places) for name in names)), None)
    if found is None:
        missing = f"{' or '.join(names)} is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"{missing}: .ci/run must see to it")
        pytest.skip(missing)
    return found
