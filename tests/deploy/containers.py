"""Containers of the image that `make test-image` builds, run as docs/deploy.md says, on the real engine."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.e2e.client import opened
from tests.e2e.program import eventually

ROOT = Path(__file__).parents[2]
DOCKER = "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else "docker"
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "512m")
FIRST_KEY = re.compile(r"OPENAI_API_KEY=(sk-wb-[A-Za-z0-9]+)")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def docker(*arguments: str, exit_code: int | None = 0, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """One command of the engine's client, to its end."""
    command = [DOCKER, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT)
    assert exit_code in {None, done.returncode}, f"{arguments} exited {done.returncode}: {done.stderr}"
    return done


def inspected(kind: str, name: str) -> Any:  # noqa: ANN401 - JSON
    (found,) = json.loads(docker(kind, "inspect", name).stdout)
    return found


class Container:
    """A server in a hardened container that is removed at the end; its port 8787 is mapped to a free one of ours."""

    def __init__(self, image: str, volume: str, *command: str, options: Sequence[str] = (), ports: bool = True) -> None:
        published = ("-p", "127.0.0.1::8787") if ports else ()
        mounts = ("-v", f"{volume}:/data")
        started = docker("run", "-d", *published, *HARDENED, *mounts, *options, image, *command)
        self.id = started.stdout.strip()
        self.image = image
        self.volume = volume
        self.url = "http://" + docker("port", self.id, "8787").stdout.split()[0] if ports else ""

    @property
    def logs(self) -> str:
        """What it printed on stdout and stderr."""
        done = docker("logs", self.id)
        return done.stdout + done.stderr

    @property
    def health(self) -> str:
        state: str = inspected("container", self.id)["State"]["Health"]["Status"]
        return state

    @property
    def exit_code(self) -> int:
        code: int = inspected("container", self.id)["State"]["ExitCode"]
        return code

    def wait_ready(self) -> None:
        def ready() -> bool:
            try:
                with opened(f"{self.url}/readyz", None, method="GET") as call:
                    return call.rest().status == 200
            except OSError:
                assert inspected("container", self.id)["State"]["Running"], self.logs
                return False

        eventually(ready, "a ready server")

    def first_key(self) -> str:
        (key,) = eventually(lambda: FIRST_KEY.findall(self.logs), "the first key")
        return str(key)

    def run(self, *command: str) -> str:
        """What a command prints that runs in a container of its own, on the same volume, as hardened."""
        mounts = ("-v", f"{self.volume}:/data")
        return docker("run", "--rm", "--network", "none", *HARDENED, *mounts, self.image, *command).stdout

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("usage", "--by", "request", "--json").splitlines()]

    def stop(self) -> None:
        """As `docker stop` does without any options: SIGTERM, and ten seconds."""
        docker("stop", self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "-f", self.id)
