"""What a running server leaves to be seen of its keys. All in child processes: hardening cannot be taken back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's")


def run(script: str, environ: dict[str, str]) -> dict[str, object]:
    command = [sys.executable, "-c", script]
    finished = subprocess.run(
        command, env=environ, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    )
    answer: dict[str, object] = json.loads(finished.stdout)
    return answer


SCRUB = """
import json, os, subprocess
from app.settings.hardening import scrub_environment
def block(): return open("/proc/self/environ", "rb").read().count(b"canary")
before = block()
scrub_environment(["OPENROUTER_API_KEY", "WEIGHBRIDGE_ADMIN_KEY", "NOT_SET"])
inherited = subprocess.run(["env"], capture_output=True, text=True).stdout
print(json.dumps({"before": before, "after": block(), "names": sorted(os.environ), "inherited": inherited,
    "kept": b"KEPT=plain" in open("/proc/self/environ", "rb").read()}))
"""


@linux_only
def test_scrubbed_variables_are_gone_from_the_process_and_from_proc() -> None:
    environ = {"OPENROUTER_API_KEY": "sk-canary-1", "KEPT": "plain", "WEIGHBRIDGE_ADMIN_KEY": "canary=2=canary"}
    answer = run(SCRUB, environ)
    assert answer["before"] == 3, "the test must see the keys where they can be seen"
    assert answer["after"] == 0
    assert answer["kept"] is True
    assert not {"OPENROUTER_API_KEY", "WEIGHBRIDGE_ADMIN_KEY"} & set(answer["names"])  # type: ignore[call-overload]
    assert "canary" not in str(answer["inherited"])
    assert "KEPT=plain" in str(answer["inherited"])


DOUBLE = f"""
import ctypes, os, sys
program = os.fsencode(sys.executable)
arguments = (ctypes.c_char_p * 4)(program, b"-c", {SCRUB.encode()!r}, None)
environ = (ctypes.c_char_p * 4)(b"OPENROUTER_API_KEY=canary-1", b"KEPT=plain", b"OPENROUTER_API_KEY=canary-2", None)
ctypes.CDLL(None).execve(program, arguments, environ)
"""


@linux_only
def test_a_doubled_variable_is_overwritten_in_both_places() -> None:
    """execve hands the environment over as it is given; getenv() would find only the first of the two."""
    answer = run(DOUBLE, {})
    assert (answer["before"], answer["after"]) == (2, 0)


HARDEN = """
import ctypes, json, os, resource
from app.settings.hardening import harden_process
resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))
os.umask(0o022)
dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
before = dumpable()
refused = harden_process()
print(json.dumps({"before": before, "dumpable": dumpable(), "core": resource.getrlimit(resource.RLIMIT_CORE),
    "umask": os.umask(0), "refused": refused}))
"""


@linux_only
def test_a_hardened_process_leaves_no_core_and_closes_its_memory_and_files() -> None:
    assert run(HARDEN, {}) == {"before": 1, "dumpable": 0, "core": [0, 0], "umask": 0o077, "refused": []}


@linux_only
def test_scrubbing_a_cleared_environment_is_harmless() -> None:
    script = (
        "import ctypes, json; ctypes.CDLL(None).clearenv()\n"
        "from app.settings.hardening import scrub_environment\n"
        "scrub_environment(['A']); print(json.dumps({'ok': True}))"
    )
    assert run(script, {"A": "1"}) == {"ok": True}
