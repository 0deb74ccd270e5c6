"""The container image, as a user meets it: `make test-image`."""

import gzip
import io
import json
import os
import re
import secrets
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import openai
import pytest

from app import __version__
from tests.deploy.conftest import NewVolume
from tests.deploy.containers import DOCKER, Container, docker, free_port, inspected
from tests.deploy.manifests import DEPLOY, DOCKER_COMPOSE
from tests.e2e.client import ASK_STREAM, Answer, opened
from tests.e2e.program import eventually

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]

FOLDER = DEPLOY / "compose"
MOST_COMPRESSED_BYTES = 75_000_000
UPSTREAM = "http://127.0.0.1:9797/api/v1"
CALLS = 40


def stream_by_sdk(url: str, key: str) -> str:
    client = openai.OpenAI(base_url=f"{url}/api/v1", api_key=key, max_retries=0)
    with client, client.responses.stream(model="openai/gpt-5.1", input="Say hello.") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text
    return text


def held(url: str, key: str, begun: Barrier) -> Answer:
    """One stream, read to its end; `begun` once its first bytes are there."""
    with opened(f"{url}/v1/responses", key, ASK_STREAM) as call:
        call.read()
        begun.wait(30)
        return call.rest()


def layers(image: str) -> tuple[int, list[tuple[str, bytes]]]:
    """The size of the image as a registry would keep it, and every file of every layer."""
    saved = subprocess.run([DOCKER, "save", image], capture_output=True, check=True, timeout=120).stdout
    files: list[tuple[str, bytes]] = []
    compressed = 0
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        for layer in json.load(archive.extractfile("manifest.json") or io.BytesIO())[0]["Layers"]:
            content = (archive.extractfile(layer) or io.BytesIO()).read()
            compressed += len(gzip.compress(content, 6))
            with tarfile.open(fileobj=io.BytesIO(content)) as tree:
                files += [(m.name, (tree.extractfile(m) or io.BytesIO()).read()) for m in tree if m.isfile()]
    return compressed, files


def test_the_documented_command_works_at_first_try(image: str, new_volume: NewVolume) -> None:
    with Container(image, new_volume(), "serve", "--demo") as server:
        key = server.first_key()
        server.wait_ready()
        assert "http://127.0.0.1:8787/api/v1" in server.logs
        (told,) = re.findall(r"What it cost: docker (exec \w+ weighbridge usage)\n", server.logs)
        docker(*told.split())
        assert stream_by_sdk(server.url, key)
        eventually(lambda: server.health == "healthy", "a healthy container")
        # other containers on the same volume, while the server runs
        made = json.loads(server.run("keys", "create", "alice", "--json"))
        assert stream_by_sdk(server.url, made["key"])
        records = server.records()
        assert {(r["client"], r["outcome"]) for r in records} == {("default", "completed"), ("alice", "completed")}
        inside = docker("exec", server.id, "weighbridge", "usage", "--by", "request", "--json").stdout.splitlines()
        assert [json.loads(line) for line in inside] == records
        server.stop()
        assert server.exit_code == 0
    with Container(image, server.volume, "serve", "--demo") as again:
        again.wait_ready()
        for known in (key, made["key"]):
            assert stream_by_sdk(again.url, known)
        assert "sk-wb-" not in again.logs.replace("sk-wb-...", "")
        assert len(again.records()) == 4


def test_nothing_is_lost_when_it_is_stopped_under_load(image: str, new_volume: NewVolume) -> None:
    """Streams that end within the grace end whole; those that do not are cut off and recorded as interrupted."""
    volume, key, secret = new_volume(), "", "sk-or-v1-" + "canary" * 8
    for pace, whole, outcome in (("50:0.5", True, "completed"), ("0.5:0.2", False, "interrupted")):
        # the mock's network is the gateway's, too: plain http is for loopback only
        mocking = ("mock-upstream", "--pace", pace)
        with Container(image, new_volume(), *mocking, options=("--expose", "8787")) as mock:
            joined = ("--network", f"container:{mock.id}", "-e", f"WEIGHBRIDGE_UPSTREAM_URL={UPSTREAM}")
            options = (*joined, "-e", f"OPENROUTER_API_KEY={secret}")
            with Container(image, volume, options=options, ports=False) as server:
                server.url = mock.url
                server.wait_ready()
                key = key or server.first_key()
                before = len(server.records())
                begun = Barrier(CALLS + 1)
                with ThreadPoolExecutor(CALLS) as pool:
                    calls = [pool.submit(held, server.url, key, begun) for _ in range(CALLS)]
                    begun.wait(30)
                    server.stop()
                    answers = [call.result() for call in calls]
                assert server.exit_code == 0, server.logs
                assert {answer.status for answer in answers} == {200}
                assert {answer.whole and b"response.completed" in answer.body for answer in answers} == {whole}
                assert secret not in server.logs
                records = server.records()[before:]
                assert [record["outcome"] for record in records] == [outcome] * CALLS


def test_stopped_at_its_first_moment_it_ends_at_once(image: str, new_volume: NewVolume) -> None:
    """Before it can catch a signal: `docker stop` need not wait until it may kill."""
    for _ in range(3):
        with Container(image, new_volume(), "serve", "--demo", ports=False) as server:
            server.stop()
            assert server.exit_code == 0


def test_it_runs_as_nobody_and_writes_to_its_volume_only(image: str, new_volume: NewVolume) -> None:
    with Container(image, new_volume(), "serve", "--demo") as server:
        server.wait_ready()
        status = docker("exec", server.id, "cat", "/proc/1/status").stdout
        assert re.search(r"^Uid:\t10001\t10001", status, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
        assert docker("exec", server.id, "sh", "-c", "touch /opt/x || touch /tmp/x", exit_code=None).returncode != 0
        risen = docker("exec", server.id, "sh", "-c", "find / -xdev -perm /6000 -type f", exit_code=None)
        assert risen.stdout == ""
        listing = docker("exec", server.id, "sh", "-c", "stat -c '%a %u %n' /data /data/*").stdout
        assert {line.split()[0] for line in listing.splitlines()} == {"700", "600"}
        assert {line.split()[1] for line in listing.splitlines()} == {"10001"}


def test_a_volume_of_somebody_elses_is_told_in_a_sentence(image: str, new_volume: NewVolume) -> None:
    volume = ("-v", f"{new_volume()}:/data:ro")
    failed = docker("run", "--rm", *volume, image, "serve", "--demo", exit_code=1)
    assert "the state directory /data cannot be used" in failed.stderr
    assert "user id 10001" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_compose_up(image: str, tmp_path: Path) -> None:
    """compose.yaml as it stands, but for port and image; the secret's folder is closed to all but its owner."""
    shutil.copytree(FOLDER, tmp_path / "compose")
    (tmp_path / "compose/secrets/upstream-key").write_text("sk-or-v1-" + "canary" * 8)
    (tmp_path / "compose/secrets").chmod(0o700)
    project = f"weighbridge-test-{secrets.token_hex(4)}"
    port = str(free_port())
    env = {**os.environ, "GATEWAY_IMAGE": image, "GATEWAY_PORT": port, "COMPOSE_PROJECT_NAME": project}

    def dc(*arguments: str) -> str:
        command = [str(DOCKER_COMPOSE), "-f", "compose.yaml", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path / "compose", env=env, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        dc("up", "--detach", "--no-build", "--wait")
        logs = dc("logs")
        assert "OPENAI_API_KEY=sk-wb-" in logs
        assert f"OPENAI_BASE_URL=http://127.0.0.1:{port}/api/v1" in logs
        assert dc("run", "--rm", "-T", "weighbridge", "keys", "create", "alice").startswith("sk-wb-")
        assert "alice" in dc("exec", "-T", "weighbridge", "weighbridge", "keys", "list")
        dc("restart")
        dc("up", "--detach", "--no-build", "--wait")
    finally:
        dc("down", "--volumes")


def test_without_a_key_it_says_what_to_do(image: str) -> None:
    failed = docker("run", "--rm", image, exit_code=2)
    assert "OPENROUTER_API_KEY" in failed.stderr
    assert "--demo" in failed.stderr


def test_what_the_image_says_of_itself(image: str) -> None:
    config = inspected("image", image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["Volumes"]) == {"/data"}
    assert set(config["ExposedPorts"]) == {"8787/tcp"}
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert docker("run", "--rm", image, "version").stdout.strip() == __version__


def test_the_image_is_small_and_holds_nobodys_keys(image: str) -> None:
    compressed, files = layers(image)
    assert compressed < MOST_COMPRESSED_BYTES, f"{compressed / 1e6:.1f} MB"
    names = [name for name, _ in files]
    assert not [name for name in names if re.search(r"\.db(-wal|-shm)?$|\.key$|admin-key$|(^|/)\.env$", name)]
    assert not [name for name in names if re.search(r"(^|/)(pip|apt-get|dpkg-deb\.log|strip|gcc)$", name)]
    key = re.compile(rb"sk-(or-v1|wb|proj|ant)-[A-Za-z0-9]{20,}")
    assert [name for name, content in files if key.search(content)] == []
    history = docker("history", "--no-trunc", image).stdout
    assert not key.search(history.encode())
    sources = {n for n in names if n.startswith("opt/weighbridge/") and n.endswith(".py") and "__pycache__" not in n}
    compiled = {re.sub(r"__pycache__/([^/]+)\.cpython-\d+\.pyc$", r"\1.py", n) for n in names if n.endswith(".pyc")}
    assert {n for n in sources if "/site-packages/" in n} - compiled == set()
