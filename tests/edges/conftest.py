"""The program between a fault server behind and raw sockets in front."""

from collections.abc import Iterator

import pytest

from tests.e2e.program import Gateway
from tests.edges.fault_server import FaultServer

FIRST_BYTE_SECONDS = IDLE_SECONDS = 0.8
REQUEST_SECONDS = 1.0
PATIENT = {"WEIGHBRIDGE_MAX_LOOP_LAG": "0"}
"""A machine that is busy with other tests makes any loop late; calls turned away for that would hide what is shown."""


@pytest.fixture(scope="session")
def fault_server() -> Iterator[FaultServer]:
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def edge(fault_server: FaultServer, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Impatient, so that what never comes is not waited for long. Shared: a test looks at its own calls only."""
    folder = tmp_path_factory.mktemp("edge")
    with Gateway(
        folder,
        canary_key,
        WEIGHBRIDGE_UPSTREAM_URL=fault_server.url,
        WEIGHBRIDGE_FIRST_BYTE_TIMEOUT=f"{FIRST_BYTE_SECONDS:g}s",
        WEIGHBRIDGE_IDLE_TIMEOUT=f"{IDLE_SECONDS:g}s",
        WEIGHBRIDGE_REQUEST_TIMEOUT=f"{REQUEST_SECONDS:g}s",
        WEIGHBRIDGE_MAX_BODY_BYTES="1MiB",
        **PATIENT,
    ) as running:
        yield running
