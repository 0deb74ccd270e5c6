"""What the tests of deploy/ share: the image, built once, and volumes that go with the test."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.deploy.containers import docker
from tests.deploy.stack import IMAGES, Stack
from tests.deploy.stand_ins import given, taken

NewVolume = Callable[[], str]


@pytest.fixture(scope="session")
def image() -> str:
    """The tag of the image of this tree; of WEIGHBRIDGE_TEST_IMAGE where that names one that is built already."""
    if given := os.environ.get("WEIGHBRIDGE_TEST_IMAGE"):
        return given
    docker("build", "--network", "host", "--build-arg", "REVISION=test", "-t", "weighbridge:test", ".", seconds=900)
    return "weighbridge:test"


@pytest.fixture
def new_volume() -> Iterator[NewVolume]:
    made: list[str] = []

    def make() -> str:
        made.append(f"weighbridge-test-{secrets.token_hex(6)}")
        return made[-1]

    yield make
    for name in made:
        docker("volume", "rm", "-f", name)


@pytest.fixture(scope="session")
def stack(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """compose.yaml, compose.cluster.yaml and compose.monitoring.yaml, up."""
    with ExitStack() as undo:
        for name in IMAGES:
            if given(name):
                undo.callback(taken, name)
        made = Stack(image, tmp_path_factory.mktemp("stack"), f"weighbridge-test-{secrets.token_hex(4)}")
        undo.callback(made.down)
        made.up()
        yield made
