"""How commands reach the admin API: of the server that runs, else of the same application inside this process.

Either way one process writes the database. With no server the command holds the store's lock while it works.
"""

import json
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

    from app.settings import Settings
    from app.upstream.http_client import HttpAnswer, HttpClient

LOCK_WAIT_SECONDS = 10.0
"""For a server that starts, or another command."""

_LOOK_SECONDS = 0.2
Result = TypeVar("Result")


class CommandFailedError(Exception):
    """What a command could not do, in words for the person who typed it."""


def run_admin(work: "Callable[[HttpClient], Awaitable[Result]]", config: Path | None = None) -> Result:
    """Run `work` with a client of the admin API. Exits 1 with a sentence on stderr when it fails."""
    from app.cli.config import load_or_exit

    settings = load_or_exit(config)

    async def with_client() -> Result:
        async with _client(settings) as client:
            return await work(client)

    return _run(with_client())


def ask(method: str, path: str, config: Path | None, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    """One call of the admin API, all that a command does; its JSON. Exits as run_admin does."""

    async def work(client: "HttpClient") -> Any:  # noqa: ANN401
        return await call(client, method, path, **arguments)

    return run_admin(work, config)


def ask_running(work: "Callable[[HttpClient], Awaitable[Result]]", config: Path | None = None) -> Result | None:
    """Run `work` with a client of the server that runs; None when none does. Makes nothing. Exits as run_admin does."""
    from app.cli.config import load_or_exit

    settings = load_or_exit(config)

    async def with_client() -> Result | None:
        client = await _running(settings.storage.state_dir, settings)
        if client is None:
            return None
        with _endings_told():
            try:
                return await work(client)
            finally:
                await client.aclose()

    return _run(with_client())


async def call(client: "HttpClient", method: str, path: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    """One call of the admin API; its JSON. Raises CommandFailedError with the server's own words."""
    answer = await client.request(method, f"/admin/api{path}", **arguments)
    if answer.is_error:
        raise CommandFailedError(_words_of(answer))
    return answer.json()


def part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


async def lines_of(answer: "HttpAnswer") -> "AsyncIterator[str]":
    """The lines of an answer that is read as it comes. httpx2's own end at U+2028, too, which stands in some names."""
    rest = b""
    async for piece in answer.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode()
    if rest:
        yield rest.decode()


def _run(work: "Coroutine[Any, Any, Result]") -> Result:
    import uvloop

    try:
        return uvloop.run(work)
    except CommandFailedError as error:
        print(f"weighbridge: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


@contextmanager
def _endings_told() -> "Iterator[None]":
    from app.upstream.http_client import Unreachable

    try:
        yield
    except Unreachable:
        raise CommandFailedError(
            "the server ended before it answered; see whether it has done it, then try again"
        ) from None


@asynccontextmanager
async def _client(settings: "Settings") -> "AsyncIterator[HttpClient]":
    from app.store.faults import StoreFault

    try:
        with _endings_told():
            async with AsyncExitStack() as stack:
                yield await _reached(settings, stack)
    except StoreFault as error:
        raise CommandFailedError(str(error)) from None


async def _reached(settings: "Settings", stack: AsyncExitStack) -> "HttpClient":
    """A client of the server that runs, or of this process. Whoever holds the store may be a server that starts."""
    from app.store.faults import StoreBusy

    give_up_at = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        running = await _running(settings.storage.state_dir, settings)
        if running is not None:
            stack.push_async_callback(running.aclose)
            return running
        try:
            return await _in_process(settings, stack)
        except StoreBusy:
            if time.monotonic() >= give_up_at:
                raise


async def _in_process(settings: "Settings", stack: AsyncExitStack) -> "HttpClient":
    from app.main import create_app
    from app.settings.admin_key import admin_key
    from app.upstream.http_client import in_process_client

    app = create_app(settings, lock_wait_seconds=_LOOK_SECONDS)
    await stack.enter_async_context(app.router.lifespan_context(app))
    return await stack.enter_async_context(in_process_client(app, _authorization(admin_key(settings))))


async def _running(state_dir: Path, settings: "Settings") -> "HttpClient | None":
    """A client of the server that the note in the state directory tells of, if it answers."""
    socket_path = _noted_socket(state_dir)
    if socket_path is None:
        return None
    from app.settings.admin_key import admin_key
    from app.upstream.http_client import Unreachable, socket_client

    client = socket_client(socket_path, _authorization(admin_key(settings)))
    try:
        answer = await client.get("/admin/api/server")
    except Unreachable:
        await client.aclose()
        return None
    if answer.is_error:
        await client.aclose()
        raise CommandFailedError(_words_of(answer))
    return client


def _noted_socket(state_dir: Path) -> Path | None:
    try:
        note = json.loads((state_dir / "server.json").read_text("utf-8"))
        noted = Path(note["admin_socket"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return noted if noted.exists() else state_dir / "admin.sock"  # the volume may be mounted elsewhere here


def _authorization(admin_key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {admin_key}"}


def _words_of(answer: "HttpAnswer") -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered HTTP {answer.status_code}"
