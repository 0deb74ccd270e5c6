"""The code samples of OpenRouter's documentation, run as they stand but for address and key."""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.program import Gateway, clean_environment
from tests.e2e.replay import ReplayUpstream, stream
from tests.record_fields import TOKENS
from tests.tools import needed

PAGE = (Path(__file__).parents[1] / "seed/openrouter-responses-streaming.txt").read_text(encoding="utf-8")
ADDRESS = "https://openrouter.ai/api/v1/responses"
KEY = "YOUR_OPENROUTER_API_KEY"


def sample(language: str, gateway: Gateway) -> str:
    """The page's only sample in the language, with our address and key. It must name both exactly once."""
    (code,) = re.findall(rf"^```{language} .*?\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    code = textwrap.dedent(code)
    assert (code.count(ADDRESS), code.count(KEY)) == (1, 1)
    return code.replace(ADDRESS, f"{gateway.url}/api/v1/responses").replace(KEY, gateway.key)


def example_stream() -> bytes:
    """What the page says that comes back."""
    (found,) = re.findall(r"^```\n(data: .*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return f"{found}\n".encode()


def events(body: bytes) -> list[object]:
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


def run(command: Sequence[str], folder: Path) -> str:
    env = clean_environment(folder, PYTHONPATH=str(folder))
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def with_header(folder: Path, headers: dict[str, str]) -> None:
    """The samples send no header of ours; Python is given it from outside, by a wrapper around `requests.post`."""
    (folder / "sitecustomize.py").write_text(
        "import functools, requests\n"
        "post = requests.post\n"
        f"requests.post = lambda url, headers, **rest: post(url, headers={{**headers, **{headers!r}}}, **rest)\n"
    )


def test_the_python_sample_prints_the_example(gateway: Gateway, replay: ReplayUpstream, tmp_path: Path) -> None:
    script = stream(example_stream(), range(0, 2_000, 61))
    with_header(tmp_path, replay.play(script))
    before = gateway.records()
    printed = run([sys.executable, "-c", sample("python", gateway)], tmp_path)
    assert printed == "".join(f"{event}\n" for event in events(example_stream()))
    record = gateway.settled(before)
    assert [record[name] for name in TOKENS] == [12, None, None, 45, None, 57]
    assert (record["outcome"], record["model_requested"]) == ("completed", "openai/o4-mini")


def test_the_python_sample_against_the_mock(mocked: Gateway, tmp_path: Path) -> None:
    printed = run([sys.executable, "-c", sample("python", mocked)], tmp_path)
    assert "'type': 'response.completed'" in printed.splitlines()[-1]


def test_the_fetch_sample(mocked: Gateway, tmp_path: Path) -> None:
    node = needed("node")
    before = mocked.records()
    code = f"(async () => {{\n{sample('typescript', mocked)}\n}})()"  # it returns, and so stood in a function
    printed = run([node, "-e", code], tmp_path)
    assert "type: 'response.created'" in printed
    assert "type: 'response.completed'" in printed
    assert mocked.settled(before)["outcome"] == "completed"
