"""What every test may use: the profiles of the law tests, and a key whose appearance anywhere is a leak."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings


@pytest.hookimpl(tryfirst=True)  # before hypothesis looks up the profile named on the command line
def pytest_configure() -> None:
    """`quick` is for every run, `long` for `make test-long`. No deadlines: they measure the neighbours."""
    settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("long", settings.get_profile("quick"), max_examples=3000)
    settings.load_profile("quick")


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
