"""What cannot be printed is a failure like others: it was exit code 120, and a traceback."""

import os
import subprocess
from pathlib import Path

from tests.e2e.program import COMMAND, START_SECONDS, clean_environment


def ended(folder: Path, out: int, *before: str) -> tuple[int, str]:
    command = [*before, *COMMAND, "keys", "create", "alice"]
    env = clean_environment(folder, WEIGHBRIDGE_STATE_DIR=str(folder / "state"))
    done = subprocess.run(
        command, env=env, stdout=out, stderr=subprocess.PIPE, text=True, timeout=START_SECONDS, check=False
    )
    return done.returncode, done.stderr


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        code, said = ended(tmp_path, full.fileno())
    assert code == 1
    assert said.endswith("weighbridge: what was to be printed cannot be written: No space left on device\n")
    assert "Traceback" not in said


def test_a_reader_that_has_left(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        code, said = ended(tmp_path, pipe.fileno())
    assert code == 1
    assert len(said.splitlines()) == 2  # that a ledger was made, and that the key is shown only now


def test_input_and_output_that_are_closed(tmp_path: Path) -> None:
    """The loop aborted."""
    code, said = ended(tmp_path, subprocess.DEVNULL, "sh", "-c", 'exec "$@" <&- >&-', "sh")
    assert code == 0
    assert len(said.splitlines()) == 2


def test_a_disk_that_is_full_long_before_the_end(tmp_path: Path) -> None:
    """What is more than a buffer holds is written while the command works: that ended in a traceback."""
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    for arguments in (("config", "example"), ("serve", "--demo", "--port", "0")):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [*COMMAND, *arguments], env=env, stdout=full, stderr=subprocess.PIPE, text=True,
                timeout=START_SECONDS, check=False,
            )  # fmt: skip
        assert done.returncode == 1
        said = "weighbridge: what was to be printed cannot be written: No space left on device"
        assert done.stderr.splitlines()[-1] == said
        assert "Traceback" not in done.stderr
    assert (tmp_path / "state" / "first-key-not-shown").exists()  # the next start shows one
