"""The allocator takes its settings where it is glibc's."""

import platform
import subprocess
import sys

TRY = "from app.serve.allocator import settle_allocator; print(settle_allocator())"


def test_glibc_takes_the_settings() -> None:
    """In a process of its own: they stay."""
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
