"""Starting: the first time and again, twice at once, and when something is wrong."""

import re
import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.serve.first_key import NOTE_NAME
from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, opened
from tests.e2e.program import Gateway, Process, clean_environment, eventually, run
from tests.e2e.replay import ReplayUpstream, document


def lines_to_paste(banner: str) -> list[str]:
    """The indented commands of the banner; one that ends in a backslash goes on in the next line."""
    return re.findall(r"^  (\S(?:.*\\\n)*.*)$", banner, re.MULTILINE)


def serve(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A server that must not come up."""
    state = {"WEIGHBRIDGE_STATE_DIR": str(folder / "state")}
    return run("serve", *arguments, env=clean_environment(folder, **{**state, **env}))


def bash(line: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-ec", line], env=env, capture_output=True, text=True, timeout=40, check=False)


def test_the_first_start_shows_a_key_once(start_gateway: GatewayStarter, replay: ReplayUpstream) -> None:
    gateway = start_gateway()
    assert gateway.first_key
    assert (gateway.process.out + gateway.process.err).count(gateway.first_key) == 1
    assert gateway.post(ASK, replay.play(document(b"{}"))).status == 200
    gateway.restart()
    assert "sk-wb-" not in re.sub(r"sk-wb-\.\.\.", "", gateway.process.out)
    assert gateway.post(ASK, replay.play(document(b"{}"))).status == 200
    (client,) = gateway.json_of("clients", "list")
    assert (client["name"], client["active_keys"]) == ("default", 1)


@pytest.mark.parametrize("stored", [False, True])
def test_a_first_key_that_nobody_saw_is_made_anew(start_gateway: GatewayStarter, *, stored: bool) -> None:
    """As a start leaves it that is killed before it can show the key: before it was stored, or after."""
    gateway = start_gateway()
    unseen = gateway.first_key
    assert unseen
    eventually(lambda: not (gateway.state_dir / NOTE_NAME).exists(), "the end of the note")
    gateway.process.end(signal.SIGKILL)
    (gateway.state_dir / NOTE_NAME).touch()
    if not stored:
        for path in gateway.state_dir.glob("weighbridge.db*"):
            path.unlink()
    gateway.restart()
    shown = re.findall(r"OPENAI_API_KEY=(sk-wb-[A-Za-z0-9]{20,})", gateway.process.out)
    assert len(shown) == 1
    assert gateway.get("/key", shown[0]).status == 200
    assert gateway.get("/key", unseen).status == (200 if stored else 401)  # it may have been seen at the last moment
    gateway.secrets["unseen key"] = unseen
    eventually(lambda: not (gateway.state_dir / NOTE_NAME).exists(), "the end of the note")
    gateway.key = gateway.first_key = shown[0]
    gateway.restart()
    assert gateway.get("/key", gateway.key).status == 200
    assert "sk-wb-" not in re.sub(r"sk-wb-\.\.\.", "", gateway.process.out)


def test_keys_made_since_are_left_alone(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway()
    alice = gateway.new_key("alice")
    (gateway.state_dir / NOTE_NAME).touch()
    gateway.restart()
    assert "sk-wb-" not in re.sub(r"sk-wb-\.\.\.", "", gateway.process.out)
    assert gateway.get("/key", gateway.key).status == gateway.get("/key", alice).status == 200
    eventually(lambda: not (gateway.state_dir / NOTE_NAME).exists(), "the end of the note")


def test_what_the_first_start_shows_can_be_pasted(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"))
    demo = Process(("serve", "--demo", "--port", "0"), env, r"ready at (\S+)", tmp_path)
    try:
        address, key, curl, install, python = lines_to_paste(demo.out.rpartition("What it cost")[0])
        assert address.startswith("export OPENAI_BASE_URL=http://127.0.0.1:")
        assert curl.startswith("curl -N ")
        assert install == "pip install openai"  # it is installed where tests run
        for command, answer in ((curl, "response.completed"), (python, "\n")):
            done = bash(f"{address}\n{key}\n{command}", env)
            assert done.returncode == 0, done.stderr
            assert answer in done.stdout
        (cost,) = re.findall(r"^What it cost: (.*)$", demo.out, re.MULTILINE)
        done = bash(cost, env)
        assert re.search(r"^default +2 ", done.stdout, re.MULTILINE), done.stdout
    finally:
        assert demo.end() == 0


def test_a_second_server_on_the_same_state(gateway: Gateway, tmp_path: Path) -> None:
    second = serve(folder=tmp_path, WEIGHBRIDGE_STATE_DIR=str(gateway.state_dir), OPENROUTER_API_KEY="sk-or-v1-second")
    assert (second.returncode, second.stdout) == (1, "")
    assert (
        f"in use by another Weighbridge process (process id {gateway.process.popen.pid}, at {gateway.url})"
        in second.stderr
    )
    assert "Traceback" not in second.stderr
    assert gateway.get("/readyz").status == 200
    assert gateway.json_of("keys", "list")


def test_a_port_that_is_taken_costs_no_key(tmp_path: Path, canary_key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failed = serve("--port", port, folder=tmp_path, OPENROUTER_API_KEY=canary_key)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use. Is Weighbridge running" in failed.stderr
    assert "Traceback" not in failed.stderr
    with Gateway(tmp_path, canary_key) as gateway:
        assert gateway.first_key


def test_without_an_upstream_key(tmp_path: Path) -> None:
    done = serve(folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "OPENROUTER_API_KEY" in done.stderr
    assert "--demo" in done.stderr
    assert not (tmp_path / "state").exists()


def test_every_fault_at_once(tmp_path: Path) -> None:
    config = tmp_path / "weighbridge.toml"
    faulty = '[server]\nport = 99999\nprot = 1\n[log]\nlevel = "loud"\n[[upstream]]\nbase_url = "http://example.com"\n'
    config.write_text(faulty)
    env = {"WEIGHBRIDGE_IDEL_TIMEOUT": "3", "OPENROUTER_API_KEY": "sk-or-v1-x y"}
    done = serve("--config", str(config), folder=tmp_path, **env)
    assert (done.returncode, done.stdout) == (2, "")
    for fault in ("server.port", "prot", "log.level", "base_url", "WEIGHBRIDGE_IDEL_TIMEOUT", "OPENROUTER_API_KEY"):
        assert fault in done.stderr
    assert "sk-or-v1-x" not in done.stderr
    assert run("config", "check", "--config", str(config), env=clean_environment(tmp_path)).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--prot", "1"],
        ["serve", "--port", "many"],
        ["serve", "--demo", "--upstream-key-stdin"],
        ["sevre"],
        ["keys", "create"],
        ["keys", "create", "alice", "--expires", "soon"],
        ["usage", "--by", "moon"],
        ["usage", "--csv", "--json"],
        ["mock-upstream", "--fault", "rain"],
    ],
    ids=" ".join,
)
def test_wrong_use(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, env=clean_environment(tmp_path, WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state")))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_each_way_to_give_the_upstream_key(tmp_path: Path, replay: ReplayUpstream) -> None:
    """By a file, by standard input, by systemd; what arrives upstream is that key."""
    key = f"sk-or-v1-{secrets.token_hex(16)}"
    (tmp_path / "upstream-key").write_text(key + "\n")
    env = clean_environment(
        tmp_path,
        WEIGHBRIDGE_UPSTREAM_URL=replay.url,
        WEIGHBRIDGE_UPSTREAM_PASS_HEADERS="x-replay",
        WEIGHBRIDGE_STATE_DIR=str(tmp_path / "state"),
    )
    for way in ({"OPENROUTER_API_KEY_FILE": str(tmp_path / "upstream-key")}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        server = Process(("serve", "--port", "0"), {**env, **way}, r"ready at (\S+)", tmp_path)
        try:
            made = run("keys", "create", "alice", env=env)
            assert made.returncode == 0, made.stderr
            script = document(b"{}")
            with opened(f"{server.url}/v1/responses", made.stdout.strip(), ASK, replay.play(script)) as call:
                assert call.rest().status == 200
            assert script.seen[0].value("authorization") == f"Bearer {key}"
        finally:
            assert server.end() == 0


def test_how_long_it_takes(gateway: Gateway) -> None:
    """Two seconds are promised on a machine that is free; this one is not."""
    assert gateway.process.start_seconds < 6 * 3
