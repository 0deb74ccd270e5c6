"""The compose files, read by docker compose itself."""

import re
import shutil
from pathlib import Path

import pytest

from tests.deploy.manifests import DEPLOY, compose

FILES = ("compose.yaml", "compose.cluster.yaml", "compose.monitoring.yaml")
STACKS = [FILES[:1], FILES[:2], (FILES[0], FILES[2]), FILES]
FOLDER = DEPLOY / "compose"


def named(files: tuple[str, ...]) -> str:
    return "+".join(file.split(".")[-2] for file in files)


@pytest.mark.parametrize("files", STACKS, ids=named)
def test_the_server_is_shut_in(files: tuple[str, ...]) -> None:
    server = compose(FOLDER, *files)["services"]["weighbridge"]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert server["mem_limit"]
    published = [port.get("host_ip") for port in server.get("ports") or []]
    assert published == ([] if "compose.cluster.yaml" in files else ["127.0.0.1"])
    drain, grace = server["environment"]["WEIGHBRIDGE_DRAIN_TIMEOUT"], server["stop_grace_period"]
    assert int(drain.removesuffix("s")) + 5 <= int(grace.removesuffix("s"))


@pytest.mark.parametrize("files", STACKS, ids=named)
def test_secrets_are_files_and_each_named_one_is_given(files: tuple[str, ...]) -> None:
    stack = compose(FOLDER, *files)
    for service in stack["services"].values():
        given = {secret["source"] for secret in service.get("secrets") or []}
        texts = [*(service.get("environment") or {}).values(), *(service.get("command") or [])]
        read = {found for text in texts for found in re.findall(r"/run/secrets/([a-z-]+)", str(text))}
        assert read <= given <= set(stack["secrets"])
        assert not [name for name in service.get("environment") or {} if name.endswith(("_KEY", "PASSWORD"))]
    for secret in stack["secrets"].values():
        assert Path(secret["file"]).parent == FOLDER / "secrets"


def test_the_proxy_is_given_the_time_that_it_gives_to_streams() -> None:
    (patience,) = re.findall(r"^\s*grace_period (\d+)s$", (DEPLOY / "proxy/Caddyfile").read_text(), re.MULTILINE)
    services = compose(FOLDER, *FILES)["services"]
    assert int(patience) + 5 <= int(services["caddy"]["stop_grace_period"].removesuffix("s"))
    assert int(patience) >= int(services["weighbridge"]["environment"]["WEIGHBRIDGE_DRAIN_TIMEOUT"].removesuffix("s"))


def test_the_cluster_has_two_replicas_with_a_volume_each_and_hidden_databases() -> None:
    stack = compose(FOLDER, *FILES)
    server = stack["services"]["weighbridge"]
    assert server["deploy"]["replicas"] == 2
    assert [(volume["type"], volume.get("source")) for volume in server["volumes"]] == [("volume", None)]
    assert stack["networks"]["storage"]["internal"] is True
    for database in ("postgres", "valkey"):
        assert set(stack["services"][database]["networks"]) == {"storage"}
        assert not stack["services"][database].get("ports")
    open_to_all = [n for n, s in stack["services"].items() if any("host_ip" not in p for p in s.get("ports") or [])]
    assert open_to_all == ["caddy"]


@pytest.mark.parametrize("files", STACKS, ids=named)
def test_what_is_mounted_is_there(files: tuple[str, ...]) -> None:
    stack = compose(FOLDER, *files)
    volumes = [volume for service in stack["services"].values() for volume in service.get("volumes") or []]
    bound = [Path(volume["source"]) for volume in volumes if volume["type"] == "bind"]
    assert [path for path in bound if not path.exists()] == []
    assert (DEPLOY.parent / "Dockerfile").is_file()


def test_nothing_of_the_secrets_folder_is_kept() -> None:
    assert (FOLDER / "secrets/.gitignore").read_text().splitlines()[-2:] == ["*", "!.gitignore"]


def test_the_check_sees_a_mistake(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "compose.yaml", tmp_path)
    with (tmp_path / "compose.yaml").open("a") as file:
        file.write("volume: {}\n")
    with pytest.raises(AssertionError, match="volume"):
        compose(tmp_path, "compose.yaml")
