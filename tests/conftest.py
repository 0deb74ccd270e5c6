"""What every test may use: the laws' profiles, a key whose appearance anywhere is a leak, the program itself."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.e2e.program import Gateway, Mock
    from tests.e2e.replay import ReplayUpstream
    from tests.store.postgres_server import PostgresServer
    from tests.store.valkey_server import ValkeyServer

GatewayStarter = Callable[..., "Gateway"]


@pytest.hookimpl(tryfirst=True)  # before hypothesis looks up the profile named on the command line
def pytest_configure() -> None:
    """`quick` is for every run, `long` for `make test-long`. No deadlines: they measure the neighbours."""
    settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("long", settings.get_profile("quick"), max_examples=3000)
    settings.load_profile("quick")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long values and bytes that are no text are named by their argument: what is packed anew holds the time of day,
    and xdist's workers must find tests of the same names.
    """
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable() and len(val) < 80):
        return argname
    return argname if isinstance(val, str) and len(val) >= 80 else None


@pytest.fixture(scope="session")
def canary_key() -> str:
    """An upstream key that no log, error, header, metric, row or file may show."""
    return f"sk-or-v1-canary{secrets.token_hex(24)}"


@pytest.fixture
def sealed(
    canary_key: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[Path]:
    """Fails the test when, at its end, the canary key stands in what it printed, logged or left in `tmp_path`.

    Yields `tmp_path`. A test that must put the key into a file puts it elsewhere (`tmp_path_factory`).
    """
    yield tmp_path
    logged = [caplog.handler.format(record) for record in caplog.get_records("setup") + caplog.get_records("call")]
    assert canary_key not in "".join([*capfd.readouterr(), *logged]), "the canary key was printed or logged"
    shown = [path for path in tmp_path.rglob("*") if path.is_file() and canary_key.encode() in path.read_bytes()]
    assert not shown, "the canary key was stored"


@pytest.fixture(scope="session")
def postgres() -> Iterator["PostgresServer"]:
    """A PostgreSQL server. A test that stops it starts a server of its own."""
    from tests.store.postgres_server import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: "PostgresServer") -> str:
    """A database of our schema to copy from."""
    from app.store.postgres import schema
    from app.store.postgres.address import PostgresAddress

    name = postgres.new_database()
    schema.upgrade(PostgresAddress(postgres.url(name)))
    return name


@pytest.fixture
def postgres_url(postgres: "PostgresServer", postgres_template: str) -> Iterator[str]:
    """A database of the test's own, empty and up to date."""
    name = postgres.new_database(postgres_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def valkey() -> Iterator["ValkeyServer"]:
    """A Valkey server. A test that stops it starts a server of its own."""
    from tests.store.valkey_server import ValkeyServer

    with ValkeyServer() as server:
        yield server


@pytest.fixture
def redis_database(valkey: "ValkeyServer") -> int:
    """A database of the test's own, empty, whose server has been there for long."""
    valkey.databases += 1
    valkey.settle_in(valkey.databases)
    return valkey.databases


@pytest.fixture(scope="session")
def replay() -> Iterator["ReplayUpstream"]:
    """An upstream that answers with the bytes that a test gives it."""
    from tests.e2e.replay import ReplayUpstream

    upstream = ReplayUpstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="session")
def mock_process(canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Mock"]:
    """The mock upstream as a process."""
    from tests.e2e.program import Mock

    with Mock(tmp_path_factory.mktemp("mock"), canary_key) as mock:
        yield mock


@pytest.fixture(scope="session")
def gateway(replay: "ReplayUpstream", canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Gateway"]:
    """The program as a process, in front of `replay`. Shared: a test looks at its own calls and nobody else's."""
    from tests.e2e.program import FreshGateway

    folder = tmp_path_factory.mktemp("gateway")
    with FreshGateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=replay.url) as running:
        yield running


@pytest.fixture(scope="session")
def mocked(mock_process: "Mock", canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Gateway"]:
    """The program as a process, in front of the mock upstream; `x-mock-fault` asks that for a fault."""
    from tests.e2e.program import FreshGateway

    folder = tmp_path_factory.mktemp("mocked")
    url = f"{mock_process.url}/api/v1"
    with FreshGateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=url) as running:
        yield running


@pytest.fixture
def start_gateway(replay: "ReplayUpstream", canary_key: str, tmp_path: Path) -> Iterator[GatewayStarter]:
    """Starts a gateway of the test's own, with more arguments and environment; in front of `replay` unless told."""
    from tests.e2e.program import Gateway

    with ExitStack() as stack:

        def start(*arguments: str, **env: str) -> Gateway:
            given = {"WEIGHBRIDGE_UPSTREAM_URL": replay.url, **env}
            return stack.enter_context(Gateway(tmp_path, canary_key, *arguments, **given))

        yield start
