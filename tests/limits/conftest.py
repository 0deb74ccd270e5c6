import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from tests.store.valkey_server import ValkeyServer


class Calling:
    """A caller as a process; see tests.limits.caller."""

    def __init__(self, url: str, books: Path, terms: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "tests.limits.caller", url, str(books), json.dumps(terms)]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def said(self) -> Any:  # noqa: ANN401 - JSON
        assert self.popen.stdout is not None
        return json.loads(self.popen.stdout.readline())

    def go(self) -> Self:
        assert self.popen.stdin is not None
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()
        return self

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


StartCallers = Callable[..., list[Calling]]


@pytest.fixture
def callers(tmp_path: Path) -> Iterator[StartCallers]:
    """Starts so many processes, all ready to go. What they come to is in `tmp_path / "books"`."""
    books = tmp_path / "books"
    books.mkdir()
    with ExitStack() as stack:

        def start(count: int, url: str, **terms: Any) -> list[Calling]:  # noqa: ANN401 - as the caller has them
            started = [Calling(url, books, terms) for _ in range(count)]
            for one in started:
                stack.callback(one.kill)
            assert [one.said() for one in started] == [{"ready": True}] * count
            return started

        yield start


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server that a test may kill."""
    with ValkeyServer() as server:
        server.settle_in()
        yield server
