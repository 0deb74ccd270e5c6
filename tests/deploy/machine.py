"""A machine that systemd runs, in a container: the unit is installed there as docs/deploy-systemd.md says."""

import http.client
import shutil
from pathlib import Path
from typing import Self

from tests.deploy.containers import docker
from tests.deploy.manifests import DEPLOY
from tests.deploy.stand_ins import RECIPES
from tests.e2e.client import opened
from tests.e2e.program import eventually

# What systemd takes to be the first process. Not --privileged: the engine may not have all those rights itself.
CAPABLE = (
    *(word for name in ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH") for word in ("--cap-add", name)),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--cgroupns", "private"),
    *("--tmpfs", "/run:exec", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "-e", "container=docker"),  # noqa: S108 - its own
)
UNIT = "weighbridge.service"


class Machine:
    """Has the unit and the upstream key, and a mock upstream that runs beside it."""

    def __init__(self, image: str, folder: Path, upstream_key: str) -> None:
        built = ("--build-arg", f"WEIGHBRIDGE_IMAGE={image}", "--tag", "weighbridge-test/systemd")
        docker("build", "--quiet", "--network", "host", *built, str(RECIPES / "systemd"), seconds=600)
        shutil.copy(DEPLOY / "systemd" / UNIT, folder)
        mounted = ("-v", f"{folder / UNIT}:/etc/systemd/system/{UNIT}:ro")
        started = docker("run", "-d", "-p", "127.0.0.1::8787", *CAPABLE, *mounted, "weighbridge-test/systemd")
        self.id = started.stdout.strip()
        self.url = "http://" + docker("port", self.id, "8787").stdout.split()[0]
        eventually(lambda: self.sh("systemctl is-system-running", exit_code=None).strip() == "running", "systemd")
        self.sh("mkdir -p /etc/weighbridge && install -m 600 /dev/null /etc/weighbridge/upstream-key")
        self.sh(f"printf %s {upstream_key} > /etc/weighbridge/upstream-key")
        mock = f"WEIGHBRIDGE_MOCK_KEY={upstream_key} /opt/weighbridge/bin/weighbridge mock-upstream --pace 40:0.3"
        docker("exec", "-d", self.id, "sh", "-c", mock)
        self.configure()

    def configure(self, *lines: str) -> None:
        """The settings of /etc/weighbridge/environment: so that it is reached from outside, and these."""
        always = ("WEIGHBRIDGE_HOST=0.0.0.0", "WEIGHBRIDGE_UPSTREAM_URL=http://127.0.0.1:9797/api/v1")
        text = "\\n".join((*always, *lines))
        self.sh(f"printf '{text}\\n' > /etc/weighbridge/environment")

    def sh(self, command: str, exit_code: int | None = 0) -> str:
        """As root in a shell of that machine; what it prints on stdout."""
        return docker("exec", self.id, "sh", "-c", command, exit_code=exit_code, seconds=120).stdout

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.sh(f"systemctl show {UNIT} --property={name} --value").strip()

    @property
    def journal(self) -> str:
        return self.sh(f"journalctl --no-pager --output=cat --unit={UNIT}")

    def wait_ready(self) -> None:
        def ready() -> bool:
            try:
                with opened(f"{self.url}/healthz", None, method="GET") as call:
                    return call.rest().status == 200
            except (OSError, http.client.HTTPException):
                return False

        eventually(ready, "a server that is ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "-f", "-v", self.id)
