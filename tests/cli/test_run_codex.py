"""Codex in its newest version: `weighbridge run -- codex` is the whole first try; and what `connect codex` prints."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.stand_in import Reply, standing_in
from tests.cli.test_connect import blocks
from tests.e2e.node_packages import installed
from tests.e2e.program import COMMAND, Gateway, clean_environment

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

VERSION = "0.171"
BEFORE = 'model = "gpt-5.5-codex"\napproval_policy = "never"\n\n[model_providers.other]\nname = "Other"\n'


@pytest.fixture(scope="module")
def codex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the program; npm keeps its 400 MB in a cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "weighbridge-tests" / f"codex-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    installed(folder, [f"@openai/codex@{VERSION}"], seconds=300)
    return folder / "node_modules/.bin"


def ask(words: list[str], codex: Path, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment(home, **more)
    env["PATH"] = os.pathsep.join((str(codex), env["PATH"]))
    done = subprocess.run(words, cwd=home, env=env, input="", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "provider: weighbridge" in done.stderr
    return done


@pytest.mark.parametrize("configured", [None, BEFORE], ids=["an empty home", "a home with a configuration"])
def test_the_whole_first_try(mocked: Gateway, codex: Path, tmp_path: Path, configured: str | None) -> None:
    config = tmp_path / ".codex/config.toml"
    if configured is not None:
        config.parent.mkdir()
        config.write_text(configured)
    before = mocked.records()
    words = [*COMMAND, "run", "--client", "coder", "--", "codex", "exec", "--skip-git-repo-check", "Say hello."]
    assert ask(words, codex, tmp_path, WEIGHBRIDGE_STATE_DIR=str(mocked.state_dir)).stdout.strip()
    record = mocked.settled(before)
    assert (record["client"], record["outcome"]) == ("coder", "completed")
    assert (config.read_text() if config.exists() else None) == configured


def test_what_connect_prints(mocked: Gateway, codex: Path, tmp_path: Path) -> None:
    """At the top of a configuration that is there already."""
    toml, shell = blocks(mocked, "codex")
    config = tmp_path / ".codex/config.toml"
    config.parent.mkdir()
    config.write_text(toml["text"] + "\n" + BEFORE.partition("\n")[2])
    before = mocked.records()
    script = f"{shell['text']}\ncodex exec --skip-git-repo-check 'Say hello.'"
    assert ask(["bash", "-ec", script], codex, tmp_path).stdout.strip()
    assert mocked.settled(before)["outcome"] == "completed"


def test_what_connect_prints_makes_it_ask_for_the_models(mocked: Gateway, codex: Path, tmp_path: Path) -> None:
    """Before it asks anything else, and with the key."""
    toml, _ = blocks(mocked, "codex")
    asked: list[tuple[str, str]] = []

    def reply(method: str, path: str) -> Reply:
        asked.append((method, path))
        return 400, {"content-type": "application/json"}, b'{"error": {"message": "enough", "code": 400}}'

    with standing_in(reply) as url:
        (tmp_path / ".codex").mkdir()
        (tmp_path / ".codex/config.toml").write_text(toml["text"].replace(mocked.url, url))
        env = clean_environment(tmp_path, OPENAI_API_KEY="sk-wb-x")
        words = [str(codex / "codex"), "exec", "--skip-git-repo-check", "Hi."]
        subprocess.run(words, cwd=tmp_path, env=env, input="", capture_output=True, text=True, timeout=120, check=False)
    assert asked[0][0] == "GET"
    assert asked[0][1].startswith("/api/v1/models?client_version=0.")
    assert ("POST", "/api/v1/responses") in asked


@pytest.mark.parametrize(("model", "known"), [("openai/gpt-5.5", True), ("mock/elsewhere", False)])
def test_it_takes_the_list_of_models(mocked: Gateway, codex: Path, tmp_path: Path, model: str, *, known: bool) -> None:
    """Also one without any entry of its kind: it warns of missing metadata and works."""
    client = f"codex-{known}".lower()
    key = mocked.new_key(client)
    mocked.command("clients", "set", client, "--models", model)
    toml, _ = blocks(mocked, "codex")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text(toml["text"])
    before = mocked.records()
    words = [str(codex / "codex"), "exec", "--skip-git-repo-check", "-m", model, "Say hello."]
    done = ask(words, codex, tmp_path, OPENAI_API_KEY=key)
    assert done.stdout.strip()
    assert ("metadata" in done.stderr) is not known, done.stderr
    assert mocked.settled(before)["outcome"] == "completed"
