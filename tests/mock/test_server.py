"""The mock as a server: inside another's loop, on its own, by seed and at a pace."""

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import typer
from sse_starlette.sse import AppStatus
from typer.testing import CliRunner

from app.cli.mock_upstream import mock_upstream
from app.mock.app import create_mock
from app.mock.dialects import DIALECTS
from app.mock.faults import CATALOGUE
from app.mock.options import MockOptions
from app.mock.pace import Pace
from app.mock.server import running_mock

ROOT = Path(__file__).parents[2]
START = "import typer; from app.cli.mock_upstream import mock_upstream; typer.run(mock_upstream)"
BODY = {"model": "openai/gpt-5.5", "input": "hi", "stream": True}


async def body_of(options: MockOptions, times: int = 1) -> list[bytes]:
    async with running_mock(options) as url, httpx2.AsyncClient(base_url=url) as client:
        return [(await client.post("/v1/responses", json=BODY)).content for _ in range(times)]


async def test_a_seed_repeats_everything() -> None:
    first = await body_of(MockOptions(pace=Pace(0, 0), seed=7, clock=lambda: 1e9), times=2)
    assert first == await body_of(MockOptions(pace=Pace(0, 0), seed=7, clock=lambda: 1e9), times=2)
    assert first[0] != first[1]  # a call made again is another call
    assert first[:1] != await body_of(MockOptions(pace=Pace(0, 0), seed=8, clock=lambda: 1e9))


async def test_it_waits_as_a_model_does() -> None:
    loop = asyncio.get_running_loop()
    options = MockOptions(pace=Pace(1_000, 0.2, jitter=0), dialect="openai")
    async with running_mock(options) as url, httpx2.AsyncClient(base_url=url) as client:
        for streamed in (True, False):
            body = {"model": "gpt-4o-mini", "input": "hi", "stream": streamed, "metadata": {"mock_tokens": "100"}}
            begun = loop.time()
            await client.post("/v1/responses", json=body)
            assert loop.time() - begun >= 0.3


async def test_silences_are_broken_by_comments() -> None:
    options = MockOptions(pace=Pace(1_000, 2.3, jitter=0))
    (body,) = await body_of(options)
    assert body.count(b": OPENROUTER PROCESSING\n\n") == 2


async def test_a_signal_to_another_server_does_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AppStatus, "should_exit", True)  # as sse-starlette has it after a signal to uvicorn
    (body,) = await body_of(MockOptions(pace=Pace(1_000, 0.1, jitter=0)))
    assert body.endswith(b"data: [DONE]\n\n")


async def test_leaving_the_block_cuts_what_stalls() -> None:
    async with httpx2.AsyncClient() as client:
        async with running_mock(MockOptions(faults="stall@3", pace=Pace(0, 0))) as url:
            answer = await client.send(client.build_request("POST", f"{url}/v1/responses", json=BODY), stream=True)
        with pytest.raises(httpx2.TransportError):
            await answer.aread()
        await answer.aclose()


async def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with running_mock(port=taken.getsockname()[1]):
            pytest.fail("it listened")


async def test_another_server_can_serve_all_but_the_wire() -> None:
    app = create_mock(MockOptions(pace=Pace(0, 0)))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://mock") as client:
        assert (await client.post("/v1/responses", json=BODY)).text.endswith("data: [DONE]\n\n")
        with pytest.raises(RuntimeError, match="own server"):
            await client.post("/v1/responses", json=BODY, headers={"x-mock-fault": "truncate@1"})


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(mock_upstream)
    return app


def test_lists(command: typer.Typer) -> None:
    faults = CliRunner().invoke(command, ["--list-faults"]).stdout.splitlines()
    assert [line.split()[0] for line in faults] == [kind.example for kind in CATALOGUE]
    dialects = CliRunner().invoke(command, ["--list-dialects"]).stdout.splitlines()
    assert [line.split()[0] for line in dialects] == list(DIALECTS)
    assert '"example": "truncate@7"' in CliRunner().invoke(command, ["--list-faults", "--json"]).stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--fault", "nonsense@3"], "nonsense@3"),
        (["--dialect", "klingon"], "klingon"),
        (["--pace", "brisk"], "brisk"),
    ],
)
def test_wrong_options_end_with_2(command: typer.Typer, arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_taken_port_ends_with_1(command: typer.Typer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(command, ["--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert "cannot listen" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal(number: signal.Signals) -> None:
    arguments = ["--port", "0", "--pace", "0", "--fault", "status=429:1,stall@3", "--key", "sk-mock"]
    with subprocess.Popen(
        [sys.executable, "-c", START, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx2.Client(headers={"authorization": "Bearer sk-mock"}) as client:
            assert client.post(f"{url}/responses", json=BODY).status_code == 429
            with client.stream("POST", f"{url}/responses", json=BODY) as answer:
                assert answer.status_code == 200
                process.send_signal(number)
                with pytest.raises(httpx2.TransportError):
                    answer.read()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said.count("\n") == 1
    assert "sk-mock" not in said


def test_the_documentation_lists_all(command: typer.Typer) -> None:
    page = (ROOT / "docs" / "mock-upstream.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name, dialect in DIALECTS.items():
        assert f"| `{name}` | {dialect.summary} |" in rows
    for kind in CATALOGUE:
        assert f"| `{kind.example}` | {kind.summary} |" in rows
    for option in typer.main.get_command(command).params:
        assert option.name == "help" or any(name in page for name in option.opts if name.startswith("--"))
