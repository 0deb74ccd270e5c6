"""What somebody else may have put into the state directory is refused with the command that mends it, never used."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from app.private_files import UntrustedFile, check_own, open_own, read_own, write_whole
from app.settings import load_settings
from app.settings.cautions import cautions
from app.store.sqlite.store import open_store
from tests.conftest import GatewayStarter
from tests.e2e.program import clean_environment, run

Plant = Callable[[Path], None]
STRANGER = 65_534
STORE_FILES = (
    *("weighbridge.db", "weighbridge.db-wal", "weighbridge.db-shm", "weighbridge.db-journal", "weighbridge.lock"),
    *("open-calls", "spool", "spool/reserve", "spool/records-00000001.jsonl"),
)


def a_link(path: Path) -> None:
    """To an empty file of ours elsewhere: it would be written to."""
    elsewhere = path.parent / f"elsewhere-{path.name}"
    elsewhere.touch(0o600)
    path.symlink_to(elsewhere)


def a_strangers(path: Path) -> None:
    path.touch(0o600)
    os.chown(path, STRANGER, STRANGER)


def for_all_to_write(path: Path) -> None:
    path.touch()
    path.chmod(0o666)


def a_pipe(path: Path) -> None:
    """Opening one waits for somebody at its other end."""
    os.mkfifo(path, 0o600)


def a_folder(path: Path) -> None:
    """Opening one for reading succeeds, and for writing fails."""
    path.mkdir(mode=0o700)


KINDS = (a_link, a_strangers, for_all_to_write, a_pipe, a_folder)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")


def mended(said: str) -> None:
    """Do what the message says: its last command takes the thing away."""
    subprocess.run(re.findall(r"`([^`]+)`", said)[-1], shell=True, check=True)  # noqa: S602 - our own words


@as_root
@pytest.mark.parametrize(
    ("name", "plant"),
    [(name, plant) for name in STORE_FILES for plant in (KINDS if name != "spool" else (a_link, a_strangers))],
)
async def test_the_store_uses_none_of_them(name: str, plant: Plant, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.parent != tmp_path:
        path.parent.mkdir(mode=0o700)
    plant(path)
    with pytest.raises(UntrustedFile, match=re.escape(str(path))) as caught:
        async with open_store(tmp_path, open_calls=10):
            pass
    mended(str(caught.value))
    async with open_store(tmp_path, open_calls=10) as store:
        assert store.health().ok


@as_root
@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("admin-key", a_link),
        ("admin-key", a_strangers),
        ("admin-key", for_all_to_write),
        ("weighbridge.db", a_link),
        ("first-key-not-shown", a_strangers),
        ("admin.sock", a_link),
    ],
)
def test_the_server_says_so_and_how_to_mend_it(name: str, plant: Plant, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    plant(state / name)
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(state))
    done = run("serve", "--demo", "--port", "0", env=env)
    said = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (2, "")
    assert said.startswith(f"weighbridge: {state / name} ")
    assert "Traceback" not in done.stderr
    mended(said)
    assert not os.path.lexists(state / name)


@as_root
def test_a_command_does_not_show_the_admin_key_to_a_strangers_socket(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    note = gateway.state_dir / "server.json"
    os.chown(note, STRANGER, STRANGER)
    done = gateway.command("keys", "list", exit_code=2)
    assert f"weighbridge: {note} belongs to user id {STRANGER}" in done.stderr
    os.chown(note, 0, 0)
    socket = gateway.state_dir / "admin.sock"
    os.chown(socket, STRANGER, STRANGER)
    assert f"{socket} belongs to" in gateway.command("keys", "list", exit_code=2).stderr
    os.chown(socket, 0, 0)
    gateway.command("keys", "list")


def test_an_open_directory_and_readable_keys_are_warned_of(
    start_gateway: GatewayStarter, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Volumes of Kubernetes come like that, and secrets in them as links."""
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "..data").mkdir()
    (secrets / "..data" / "admin-key").write_text("an-admin-key-of-24-chars")
    (secrets / "..data" / "admin-key").chmod(0o644)
    (secrets / "admin-key").symlink_to("..data/admin-key")
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)

    env = clean_environment(
        tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"), WEIGHBRIDGE_ADMIN_KEY_FILE=str(secrets / "admin-key")
    )
    settings = load_settings(environ=env, need_upstream_key=False)
    assert settings.server.admin_key is not None
    said = list(cautions(settings, env))
    assert f"other users can change the state directory {tmp_path / 'state'}" in said[0]
    assert f"all users of this machine can read {secrets / 'admin-key'}" in said[1]
    gateway = start_gateway()
    assert gateway.has_logged("other users can change the state directory")


def test_files_that_a_volume_has_opened_to_our_own_group_are_made_private_again(tmp_path: Path) -> None:
    """With `fsGroup` Kubernetes gives each file of a volume to a group, on each start, and marks the directories."""
    tmp_path.chmod(0o2770)
    path = tmp_path / "open-calls"
    write_whole(path, b"x")
    path.chmod(0o660)
    assert read_own(path) == b"x"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o660)
    tmp_path.chmod(0o770)
    with pytest.raises(UntrustedFile, match=f"chmod 600 {path}"):
        read_own(path)
    path.chmod(0o662)
    tmp_path.chmod(0o2770)
    with pytest.raises(UntrustedFile, match="can be written by other users"):
        check_own(path)


@as_root
def test_root_trusts_the_owner_of_the_directory(tmp_path: Path) -> None:
    """Who operates a service runs commands as root on its directory."""
    path = tmp_path / "server.json"
    write_whole(path, b"{}")
    os.chown(path, STRANGER, STRANGER)
    with pytest.raises(UntrustedFile):
        open_own(path, os.O_RDONLY)
    os.chown(tmp_path, STRANGER, STRANGER)
    assert read_own(path) == b"{}"
