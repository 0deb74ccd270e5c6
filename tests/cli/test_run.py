"""`run`: a command with a key of its own. Its signals and its end are the command's; the key ends with it."""

import os
import pty
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from app.cli.command_environment import pointed, with_provider
from app.cli.server_address import ServerAddress
from tests.conftest import GatewayStarter
from tests.e2e.program import COMMAND, Gateway, Process, clean_environment, eventually, run

TELLS = """
import os, signal, sys
seen = []
say = lambda *words: os.write(1, (" ".join(words) + "\\n").encode())
signal.signal(signal.SIGINT, lambda *_: (seen.append("int"), say("interrupted")))
signal.signal(signal.SIGTERM, lambda *_: (say(*seen, "term"), os._exit(5)))
say("key", os.environ["OPENAI_API_KEY"])
while True:
    signal.pause()
"""
"""A command that tells its key and its signals, and ends at SIGTERM."""


def status_of(gateway: Gateway, key: str) -> int:
    return gateway.get("/api/v1/key", key).status


def keys_of(gateway: Gateway, client: str) -> list[dict[str, Any]]:
    return [key for key in gateway.admin("GET", "/keys").json["keys"] if key["client"] == client]


def test_the_command_can_call_and_its_key_ends_with_it(mocked: Gateway) -> None:
    script = (
        "import os, urllib.request as r; "
        "q = r.Request(os.environ['OPENAI_BASE_URL'] + '/key', "
        "headers={'Authorization': 'Bearer ' + os.environ['OPENAI_API_KEY']}); "
        "print(os.environ['OPENAI_API_KEY'], r.urlopen(q).status); raise SystemExit(7)"
    )
    done = mocked.command("run", "--client", "runner", "--", sys.executable, "-c", script, exit_code=7)
    key, status = done.stdout.split()
    mocked.secrets["key of a run"] = key
    assert (status, status_of(mocked, key)) == ("200", 401)
    (listed,) = keys_of(mocked, "runner")
    assert (listed["label"], listed["state"], listed["key_id"] in key) == ("run", "revoked", True)
    lasts = int(listed["expires_at"][8:10]) - int(listed["created_at"][8:10])
    assert lasts == 1 or int(listed["expires_at"][8:10]) == 1
    assert done.stderr == ""


def test_a_command_killed_by_a_signal_is_seen_as_killed(mocked: Gateway) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        done = mocked.command("run", "--client", "killed", "sh", "-c", f"kill -{number} $$", exit_code=-number)
        assert done.stderr == ""
    assert {key["state"] for key in keys_of(mocked, "killed")} == {"revoked"}


def test_what_cannot_start_leaves_no_key(mocked: Gateway, tmp_path: Path) -> None:
    not_a_program = tmp_path / "notes"
    not_a_program.write_bytes(b"\x7fELF")
    not_a_program.chmod(0o755)
    assert "cannot be started" in mocked.command("run", "--client", "none", str(not_a_program), exit_code=126).stderr
    assert "was not found" in mocked.command("run", "--client", "none", "no-such-command", exit_code=127).stderr
    assert {key["state"] for key in keys_of(mocked, "none")} == {"revoked"}


def started(gateway: Gateway, folder: Path, client: str) -> tuple[Process, str]:
    """A command that runs, and its key."""
    (folder / "tells.py").write_text(TELLS)
    arguments = ("run", "--client", client, "--", sys.executable, "tells.py")
    process = Process(arguments, gateway.env, r"key (\S+)\n", folder)
    gateway.secrets[f"key of {client}"] = process.url
    assert status_of(gateway, process.url) == 200
    return process, process.url


def test_signals_reach_the_command(mocked: Gateway, tmp_path: Path) -> None:
    process, key = started(mocked, tmp_path, "signals")
    process.tell(signal.SIGINT)
    eventually(lambda: "interrupted" in process.out)
    assert process.end(signal.SIGTERM) == 5
    assert process.out.splitlines()[-1] == "int term"
    assert status_of(mocked, key) == 401


def test_a_key_ends_with_a_run_that_is_killed(mocked: Gateway, tmp_path: Path) -> None:
    """Nothing but SIGKILL, or the kernel without memory, ends it before its command."""
    process, key = started(mocked, tmp_path, "slain")
    (command,) = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text().split()[1:]
    try:
        process.tell(signal.SIGKILL)
        eventually(lambda: status_of(mocked, key) == 401, "the end of the key")
    finally:
        os.kill(int(command), signal.SIGKILL)
        process.wait()


def test_the_terminal_interrupts_the_command_once(mocked: Gateway, tmp_path: Path) -> None:
    """Ctrl-C goes to everybody in the foreground; a second one would end most programs."""
    (tmp_path / "tells.py").write_text(TELLS)
    words = [*COMMAND, "run", "--client", "typed", "--", sys.executable, "tells.py"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(words[0], words, mocked.env)  # noqa: S606 - the program itself
    printed = ""

    def until(text: str) -> None:
        nonlocal printed
        while text not in printed:
            printed += os.read(terminal, 4096).decode()

    until("key ")
    os.write(terminal, b"\x03")
    until("interrupted")
    os.kill(pid, signal.SIGTERM)  # which is passed on after what came before
    until("term")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(terminal)
    assert "\nint term" in printed.replace("\r", "")


def test_the_command_sees_no_secret_of_the_server(mocked: Gateway, canary_key: str) -> None:
    env = {**mocked.env, "OPENROUTER_API_KEY": canary_key, "HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "intra"}
    done = run("run", "--client", "curious", "env", env=env)
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines())
    mocked.secrets["key of curious"] = shown["OPENAI_API_KEY"]
    assert canary_key not in done.stdout
    assert shown["OPENAI_API_BASE"] == shown["OPENAI_BASE_URL"] == f"{mocked.url}/api/v1"
    assert (shown["NO_PROXY"], shown["OPENAI_AGENTS_DISABLE_TRACING"]) == ("intra,127.0.0.1", "1")


def test_without_a_server(tmp_path: Path) -> None:
    done = run("run", "--", "true", env=clean_environment(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "weighbridge: no server runs here; start one with `weighbridge serve`\n"
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_ends_meanwhile(tmp_path: Path, start_gateway: GatewayStarter) -> None:
    """Then the command line revokes the key by itself."""
    gateway = start_gateway()
    process, _ = started(gateway, tmp_path, "orphan")
    assert gateway.process.end() == 0
    assert process.end() == 5
    assert process.err == ""
    assert {key["state"] for key in gateway.json_of("keys", "list") if key["client"] == "orphan"} == {"revoked"}


def test_every_process_of_a_server_knows_the_key(start_gateway: GatewayStarter, postgres_url: str) -> None:
    """From the command's first call on."""
    gateway = start_gateway("--workers", "2", WEIGHBRIDGE_DATABASE_URL=postgres_url)
    gateway.env["WEIGHBRIDGE_DATABASE_URL"] = postgres_url
    script = (
        "import os, urllib.request as r; ask = r.Request(os.environ['OPENAI_BASE_URL'] + '/key', "
        "headers={'Authorization': 'Bearer ' + os.environ['OPENAI_API_KEY']}); "
        "print(*[r.urlopen(ask).status for _ in range(20)])"
    )
    assert gateway.command("run", sys.executable, "-c", script).stdout.split() == ["200"] * 20
    states = {finding["check"]: finding["state"] for finding in gateway.json_of("doctor")}
    assert "fail" not in states.values()


# -- Codex' words --------------------------------------------------------------------------------------------------

OPENROUTER = ServerAddress("http://127.0.0.1:8787", "https://gateway.example.com", vendor_names=True, running=True)
OPENAI = ServerAddress("http://127.0.0.1:8787", "http://127.0.0.1:8787", vendor_names=False, running=True)
BASE_URL = 'model_providers.weighbridge.base_url="http://127.0.0.1:8787/api/v1"'
MODEL = 'model="openai/gpt-5.5"'


@pytest.mark.parametrize("words", [["codex", "exec", "Hi."], ["/opt/bin/codex"], ["npx", "-y", "@openai/codex@latest"]])
def test_codex_gets_its_provider(words: list[str], tmp_path: Path) -> None:
    made = with_provider(words, OPENROUTER, {"HOME": str(tmp_path)}, catalog=True)
    place = next(place for place, word in enumerate(words) if "codex" in word) + 1
    assert (made[:place], made[-len(words) + place :] if words[place:] else []) == (words[:place], words[place:])
    assert {BASE_URL, MODEL, 'model_provider="weighbridge"'} <= set(made)


@pytest.mark.parametrize("words", [["echo", "codex"], ["python", "codex.py"], ["my-codex"]])
def test_nobody_else_does(words: list[str]) -> None:
    assert with_provider(words, OPENROUTER, {}, catalog=True) == words


@pytest.mark.parametrize(
    "chosen", [["-m", "x/y"], ["--model=x/y"], ["-c", "model=x"], ["-cmodel=x"], ["--profile", "p"], ["--oss"]]
)
def test_a_model_that_is_chosen_stays(chosen: list[str], tmp_path: Path) -> None:
    assert MODEL not in with_provider(["codex", *chosen], OPENROUTER, {"HOME": str(tmp_path)}, catalog=True)
    assert MODEL not in with_provider(["codex"], OPENAI, {"HOME": str(tmp_path)}, catalog=True)


def test_a_model_in_the_configuration_stays_if_openrouter_can_know_it(tmp_path: Path) -> None:
    environ = {"CODEX_HOME": str(tmp_path)}
    for text, stays in (('model = "openai/gpt-5"', True), ('model = "gpt-5.5-codex"', False), ("model = [", False)):
        (tmp_path / "config.toml").write_text(text)
        assert (MODEL not in with_provider(["codex"], OPENROUTER, environ, catalog=True)) is stays


def test_a_proxy_is_not_asked_for_the_gateway() -> None:
    assert "NO_PROXY" not in pointed({}, "http://127.0.0.1:1/v1", "k", ())
    made = pointed({"https_proxy": "http://proxy"}, "http://127.0.0.1:1/v1", "k", ())
    assert made["no_proxy"] == made["NO_PROXY"] == "127.0.0.1"


def test_codex_asks_for_the_models_where_they_are_served() -> None:
    """Without an answer it would not start."""
    for catalog in (True, False):
        made = with_provider(["codex"], OPENAI, {}, catalog=catalog)
        assert any("model_catalog_url" in word for word in made) is catalog
