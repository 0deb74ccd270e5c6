"""The commands of README.md, run in its order as a reader would paste them, in front of the demo's mock upstream."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.program import Process, clean_environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
KEY_LINE = re.compile(r"export OPENAI_API_KEY=(sk-wb-\S+)")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The shell commands, one by one; a line that ends in a backslash goes on in the next one."""
    lines = [re.sub(r"\\\n\s*", "", block).splitlines() for block in blocks("sh")]
    return [line for block in lines for line in block if line.strip()]


class Reader:
    """Somebody with a shell of their own and the demo running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = clean_environment(folder, WEIGHBRIDGE_STATE_DIR=str(folder / "state"))
        self.demo = Process(("serve", "--demo", "--port", "0"), self.env, r"ready at (\S+)", folder)
        shown = KEY_LINE.search(self.demo.out)
        assert shown
        self.env |= {"OPENAI_BASE_URL": f"{self.demo.url}/api/v1", "OPENAI_API_KEY": shown[1]}

    def paste(self, command: str) -> str:
        """What it prints."""
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(tmp_path_factory.mktemp("reader"))
    yield made
    assert made.demo.end() == 0


def matching(start: str) -> list[str]:
    found = [command for command in commands() if command.startswith(start)]
    assert found, f"README.md has no command that begins with {start!r}"
    return found


def test_every_command_is_tried_here() -> None:
    tried = ("make run", "make test", "PATH=", "export ", "curl ", "weighbridge usage", "weighbridge keys")
    settings = ("weighbridge config", "weighbridge serve", "weighbridge clients")
    assert [c for c in commands() if not c.startswith(tried + settings)] == []


def test_make_knows_its_verbs() -> None:
    for command in matching("make "):
        done = subprocess.run(
            ["make", "-n", *command.split("#")[0].split()[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_exports_are_those_of_the_first_start(reader: Reader) -> None:
    names = [line.split("=")[0] for line in matching("export ")]
    assert names == re.findall(r"^  (export \w+)=", reader.demo.out, re.MULTILINE)
    address = "http://127.0.0.1:8787/api/v1"
    assert matching("export OPENAI_BASE_URL=") == [f"export OPENAI_BASE_URL={address}"]


def test_curl(reader: Reader) -> None:
    for command in matching("curl "):
        assert "response.completed" in reader.paste(command)


def test_the_python_block(reader: Reader) -> None:
    (code,) = blocks("python")
    (reader.folder / "hello.py").write_text(code)
    assert reader.paste(f"{sys.executable} hello.py").strip()


def test_usage(reader: Reader) -> None:
    test_curl(reader)
    for command in matching("weighbridge usage"):
        assert reader.paste(command).strip()


def test_keys(reader: Reader) -> None:
    key_id = printed = ""
    for command in (command for command in matching("weighbridge keys") if "--config" not in command):
        printed = reader.paste(command.replace("KEY_ID", key_id))
        found = re.search(r"sk-wb-([A-Za-z0-9]{10})", printed)
        key_id = found[1] if found else key_id
    assert "revoked" in printed
    assert key_id in printed


def test_clients(reader: Reader) -> None:
    reader.paste(matching("weighbridge keys create")[0])
    for command in matching("weighbridge clients"):
        assert "60" in reader.paste(command)


def test_configuration(reader: Reader, canary_key: str) -> None:
    for command in matching("weighbridge config"):
        reader.paste(command)
    (create,) = (command for command in matching("weighbridge keys") if "--config" in command)
    assert reader.paste(create).startswith("sk-wb-")
    (serve,) = matching("weighbridge serve")
    env = clean_environment(reader.folder, WEIGHBRIDGE_STATE_DIR=str(reader.folder / "other"), WEIGHBRIDGE_PORT="0")
    arguments = tuple(serve.split("#")[0].split()[1:])
    server = Process(arguments, {**env, "OPENROUTER_API_KEY": canary_key}, r"ready at (\S+)", reader.folder)
    assert server.end() == 0
