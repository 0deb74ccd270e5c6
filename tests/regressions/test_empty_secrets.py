"""No empty secret opens anything: an empty admin key file made a caller without a key the administrator."""

import os
import subprocess
from pathlib import Path

import pytest

from app.private_files import write_whole
from app.settings import SettingsError, load_settings
from tests.conftest import GatewayStarter
from tests.e2e.client import opened
from tests.e2e.program import Gateway, clean_environment, run

NO_CREDENTIALS = ("", "Bearer", "Bearer ", "Bearer  ", "bearer\t", "Bearer \x00")


def statuses(gateway: Gateway) -> set[int]:
    """What the admin API and the metrics of another name say to callers that show nothing."""
    found = set()
    for given in NO_CREDENTIALS:
        headers = {"host": "127.0.0.1", "x-forwarded-for": "192.0.2.1"} | ({"authorization": given} if given else {})
        for path in ("/admin/api/keys", "/metrics"):
            with opened(gateway.url + path, None, headers=headers, method="GET") as call:
                found.add(call.rest().status)
    return found


@pytest.mark.parametrize("left", [b"", b"\n", b"  \n", b"\0" * 53], ids=["empty", "newline", "blanks", "zeros"])
def test_an_admin_key_file_without_a_key_is_made_anew(left: bytes, start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    first = gateway.admin_key
    path = gateway.state_dir / "admin-key"
    gateway.process.end()
    path.write_bytes(left)
    gateway.restart()
    assert gateway.admin_key != first
    assert len(gateway.admin_key) > 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert gateway.admin("GET", "/keys").status == 200
    assert statuses(gateway) <= {400, 401}


def test_a_short_admin_key_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("fifteen-letters\n")
    config = tmp_path / "w.toml"
    config.write_text(f'[server]\nadmin_key_file = "{short}"')
    ways: list[tuple[Path | None, dict[str, str]]] = [
        (None, {"WEIGHBRIDGE_ADMIN_KEY": "fifteen-letters"}),
        (None, {"WEIGHBRIDGE_ADMIN_KEY_FILE": str(short)}),
        (config, {}),
    ]
    for path, environ in ways:
        with pytest.raises(SettingsError, match="it has 15 characters and needs at least 16"):
            load_settings(path, environ={"HOME": "/nobody"} | environ, need_upstream_key=False)


def test_a_short_admin_key_in_the_state_directory(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    write_whole(state / "admin-key", b"abc\n")
    done = run("serve", "--demo", "--port", "0", env=clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(state)))
    assert (done.returncode, done.stdout) == (2, "")
    assert "admin-key cannot be used: it has 3 characters" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "variable",
    [
        "OPENROUTER_API_KEY_FILE",
        "WEIGHBRIDGE_UPSTREAM_KEY_FILE",
        "WEIGHBRIDGE_ADMIN_KEY_FILE",
        "WEIGHBRIDGE_DATABASE_URL_FILE",
        "WEIGHBRIDGE_REDIS_URL_FILE",
    ],
)
def test_a_secret_file_that_is_named_and_empty_is_a_fault(variable: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"\n")
    with pytest.raises(SettingsError, match=f"{variable}: it is empty"):
        load_settings(environ={"HOME": "/nobody", variable: str(empty)}, need_upstream_key=False)


def test_a_short_upstream_key_is_warned_of(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway(OPENROUTER_API_KEY="ollama")
    assert gateway.has_logged("the upstream key has fewer than 16 characters")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Where the disk is full, what was there stays."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    script = (
        "import resource, sys; from pathlib import Path; from app.private_files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3, 3))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"write_whole(Path({str(path)!r}), b'afterwards')"
    )
    done = subprocess.run(["python", "-c", script], capture_output=True, check=False, env=os.environ)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"before"
