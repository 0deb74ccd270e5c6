"""The commands that the first words name are ones that can be pasted where those words are read."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.serve.welcome import from_outside
from tests.e2e.program import Process, clean_environment

KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
DOCKER = [".dockerenv", "proc/self/mountinfo"]
HOSTNAME_MOUNT = (
    f"131 118 254:0 /var/lib/docker/containers/7fce8079b2cd{'4' * 52}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
)
MOUNTED = ("resolv.conf", "hostname", "hosts")
SERVICE = {"INVOCATION_ID": "3d01", "WEIGHBRIDGE_STATE_DIR": "/var/lib/weighbridge"}


@pytest.mark.parametrize(
    ("marks", "environ", "pids", "command"),
    [
        (DOCKER, {}, (1, 0), "docker exec 7fce8079b2cd weighbridge"),
        (DOCKER, {}, (7, 1), "docker exec 7fce8079b2cd weighbridge"),  # docker run --init
        ([".dockerenv"], {}, (1, 0), None),  # a machine that was made of an image: nobody there knows `docker exec`
        (["run/.containerenv"], {}, (1, 0), "podman exec 61e4c7a85c83 weighbridge"),
        ([], KUBERNETES, (1, 0), "kubectl exec 61e4c7a85c83 -- weighbridge"),
        (DOCKER, {}, (40, 31), None),  # typed into a shell in a container
        ([], SERVICE, (1200, 1), "WEIGHBRIDGE_STATE_DIR=/var/lib/weighbridge /opt/bin/weighbridge"),
        (DOCKER, SERVICE, (1200, 1), "WEIGHBRIDGE_STATE_DIR=/var/lib/weighbridge /opt/bin/weighbridge"),
        ([], SERVICE, (1200, 1100), None),  # typed into a shell that is part of a service
        ([], {}, (1200, 1), None),
    ],
    ids=["docker", "init", "machine", "podman", "kubernetes", "shell", "service", "contained", "session", "orphan"],
)
def test_a_container_or_service_is_told_from_a_shell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    marks: list[str],
    environ: Mapping[str, str],
    pids: tuple[int, int],
    command: str | None,
) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/bin/weighbridge"])
    for mark in marks:
        (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / mark).write_text(HOSTNAME_MOUNT)
    assert from_outside(tmp_path, environ, "61e4c7a85c83", pids) == command


@pytest.mark.parametrize(
    ("mark", "folder", "engine"),
    [(".dockerenv", "containers/{}", "docker"), ("run/.containerenv", "overlay-containers/{}/userdata", "podman")],
)
def test_a_container_with_a_name_of_somebody_elses_is_named_by_its_id(
    tmp_path: Path, mark: str, folder: str, engine: str
) -> None:
    """With `--hostname`, or with the host's network, the host's name is none that the engine knows."""
    for path in (mark, "proc/self/mountinfo"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    source = f"/var/lib/{engine}/{folder.format('7fce8079b2cd' + '4' * 52)}"
    lines = [f"13{n} 118 254:0 {source}/{name} /etc/{name} rw - ext4 /dev/vda rw" for n, name in enumerate(MOUNTED)]
    (tmp_path / "proc/self/mountinfo").write_text("\n".join(["22 1 0:21 / / rw - overlay overlay rw", *lines]))
    assert from_outside(tmp_path, {}, "team-gateway", (1, 0)) == f"{engine} exec 7fce8079b2cd weighbridge"


def test_the_address_to_paste_is_the_one_that_clients_can_reach(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_PUBLIC_URL="https://gateway.example.com/")
    server = Process(("serve", "--demo", "--port", "0"), env, r"ready at (\S+)", tmp_path)
    assert server.end() == 0
    assert server.url == "https://gateway.example.com"
    assert "export OPENAI_BASE_URL=https://gateway.example.com/api/v1\n" in server.out
