"""The program in front of an upstream that answers with whatever bytes a test gives it."""

from collections.abc import Iterator

import pytest

from tests.e2e.program import Gateway
from tests.edges.conftest import PATIENT
from tests.edges.fault_server import FaultServer


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def program(upstream: FaultServer, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """At its end everything that it wrote is searched for the key."""
    folder = tmp_path_factory.mktemp("program")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=upstream.url, **PATIENT) as running:
        yield running
