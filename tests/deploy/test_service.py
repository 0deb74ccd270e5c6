"""The systemd unit, run by systemd: the credential, the walls around it, a crash, a stop under load, wrong settings."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.deploy.containers import FIRST_KEY
from tests.deploy.machine import Machine
from tests.e2e.client import ASK, ASK_STREAM, Answer, opened
from tests.e2e.program import eventually

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

CALLS = 10
UPSTREAM_KEY = "sk-or-v1-" + "canary" * 8


@pytest.fixture(scope="module")
def machine(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(image, tmp_path_factory.mktemp("machine"), UPSTREAM_KEY) as machine:
        machine.sh("systemctl enable --now weighbridge")
        machine.wait_ready()
        yield machine


@pytest.fixture(scope="module")
def key(machine: Machine) -> str:
    """The first one, as the journal has it."""
    (found,) = FIRST_KEY.findall(machine.journal)
    return str(found)


def ask(machine: Machine, key: str) -> Answer:
    with opened(f"{machine.url}/v1/responses", key, ASK) as call:
        return call.rest()


def test_it_serves_and_the_command_that_it_names_works(machine: Machine, key: str) -> None:
    assert ask(machine, key).status == 200
    (told,) = re.findall(r"What it cost: (.+ usage)\n", machine.journal)
    assert "default" in machine.sh(told)
    made = machine.sh(told.replace("usage", "keys create alice")).strip()
    assert ask(machine, made).status == 200


def test_it_is_nobody_and_may_do_nothing(machine: Machine) -> None:
    status = machine.sh(f"cat /proc/{machine.show('MainPID')}/status")
    uid = re.findall(r"^Uid:\t(\d+)", status, re.MULTILINE)[0]
    assert int(uid) >= 61184  # of those that systemd makes up
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    assert machine.sh("stat -L -c '%a %u' /var/lib/weighbridge").split() == ["700", uid]
    assert machine.sh("stat -c '%a %u' /etc/weighbridge/upstream-key").split() == ["600", "0"]
    (exposure,) = re.findall(
        r"exposure level for weighbridge.service: ([0-9.]+)", machine.sh("systemd-analyze security weighbridge")
    )
    assert float(exposure) <= 2


def test_the_key_is_in_its_credential_and_nowhere_else(machine: Machine) -> None:
    pid = machine.show("MainPID")
    assert UPSTREAM_KEY not in machine.sh(f"cat /proc/{pid}/environ /proc/{pid}/cmdline") + machine.journal
    assert UPSTREAM_KEY not in machine.sh("systemctl show weighbridge")
    assert machine.sh("grep -rlaF canarycanary /var/lib/private/weighbridge", exit_code=1) == ""


def test_after_a_crash_it_is_back_with_its_keys(machine: Machine, key: str) -> None:
    before = machine.show("MainPID")
    machine.sh("systemctl kill --signal=KILL weighbridge")
    eventually(lambda: machine.show("NRestarts") == "1" and machine.show("MainPID") not in {before, "0"}, "a restart")
    machine.wait_ready()
    assert ask(machine, key).status == 200


def test_stopped_under_load_it_lets_streams_end(machine: Machine, key: str) -> None:
    begun = Barrier(CALLS + 1)
    asked = {**ASK_STREAM, "metadata": {"mock_tokens": "160"}}

    def held() -> Answer:
        with opened(f"{machine.url}/v1/responses", key, asked) as call:
            call.read()
            begun.wait(30)
            return call.rest()

    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(held) for _ in range(CALLS)]
        begun.wait(30)
        machine.sh("systemctl stop weighbridge")
        answers = [call.result() for call in calls]
    assert all(answer.whole and b"response.completed" in answer.body for answer in answers)
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    machine.sh("systemctl start weighbridge")
    machine.wait_ready()
    assert ask(machine, key).status == 200


def test_settings_at_fault_are_said_and_not_tried_again(machine: Machine) -> None:
    machine.configure("WEIGHBRIDGE_DRAIN_TIMEOUT=soon")
    try:
        machine.sh("systemctl restart weighbridge", exit_code=None)
        eventually(lambda: machine.show("ActiveState") == "failed", "the end")
        assert (machine.show("ExecMainStatus"), machine.show("NRestarts")) == ("2", "0")
        assert "env WEIGHBRIDGE_DRAIN_TIMEOUT: " in machine.journal
    finally:
        machine.configure()
        machine.sh("systemctl reset-failed weighbridge; systemctl start weighbridge")
