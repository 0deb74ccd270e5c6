"""A command that is typed while a server starts waits for that server, not for the end of its hold on the database."""

import asyncio
import subprocess
from pathlib import Path

from app.store.lock import LOCK_NAME, StoreLock
from tests.e2e.program import COMMAND, START_SECONDS, Gateway, clean_environment, eventually


def test_it_is_told_to_the_server_once_that_answers(gateway: Gateway, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    (state_dir / "admin-key").write_text(gateway.admin_key)
    (state_dir / "admin-key").chmod(0o600)
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(state_dir))
    lock = asyncio.run(StoreLock.acquire(state_dir, 0))  # as of a server that has not yet said where it is
    command = subprocess.Popen([*COMMAND, "keys", "list", "--json"], env=env, stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: _holds(command.pid, state_dir / LOCK_NAME) or command.poll() is not None, "the wait")
        (state_dir / "server.json").write_text((gateway.state_dir / "server.json").read_text())
        shown, _ = command.communicate(timeout=START_SECONDS)
    finally:
        command.kill()
        lock.release()
    assert command.returncode == 0
    assert shown == gateway.command("keys", "list", "--json").stdout


def test_a_server_waits_for_a_command_that_has_the_database(tmp_path: Path, canary_key: str) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    lock = asyncio.run(StoreLock.acquire(state_dir, 0))
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(state_dir), OPENROUTER_API_KEY=canary_key)
    server = subprocess.Popen([*COMMAND, "serve", "--port", "0"], env=env, stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: _holds(server.pid, state_dir / LOCK_NAME) or server.poll() is not None, "the wait")
        lock.release()
        assert server.stdout is not None
        assert "ready at http://" in server.stdout.readline()
        server.terminate()
        assert server.wait(START_SECONDS) == 0
    finally:
        server.kill()
        server.communicate()


def _holds(pid: int, path: Path) -> bool:
    """Whether a process has this file open."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        return any(link.readlink() == path for link in folder.iterdir())
    except OSError:
        return False
