"""How commands reach the admin API: of the running server, or else of the same application inside this process.

Only one process writes the database. If no server runs, the command holds the store's lock while it works.
"""

import json
import os
import pwd
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

    from app.settings import Settings
    from app.upstream.api.http_client import HttpAnswer, HttpClient

LOCK_WAIT_SECONDS = 10.0
"""How long a command waits for the lock while a server starts or another command works."""

SPREAD_SECONDS = 1.0
"""The time in which every process of a server learns of a change."""

_LOOK_SECONDS = 0.2
Result = TypeVar("Result")


class CommandFailedError(Exception):
    """A command failed. The message is for the person who typed it."""


def run_admin(
    work: "Callable[[HttpClient], Awaitable[Result]]",
    config: Path | None = None,
    *,
    makes: bool = False,
    reads: bool = False,
) -> Result:
    """Run `work` with a client of the admin API. Exits 1 with a sentence on stderr when it fails.

    If no server runs and there is no ledger, only a command that `makes` something makes one. A command that only
    `reads` releases the ledger before `work`: a person may look at its output in a pager for hours.
    """
    from app.cli.config import load_or_exit

    settings = load_or_exit(config)

    async def with_client() -> Result:
        async with _client(settings, makes=makes, reads=reads) as client:
            return await work(client)

    return _run(with_client())


def ask(method: str, path: str, config: Path | None, *, makes: bool = False, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    """Make one call of the admin API and return its JSON. `makes` and exit codes are as for run_admin()."""

    async def work(client: "HttpClient") -> Any:  # noqa: ANN401
        return await call(client, method, path, **arguments)

    return run_admin(work, config, makes=makes)


def ask_running(work: "Callable[[HttpClient], Awaitable[Result]]", config: Path | None = None) -> Result | None:
    """Run `work` with a client of the running server. None if no server runs. Exit codes are as for run_admin()."""
    from app.cli.config import load_or_exit

    settings = load_or_exit(config)

    async def with_client() -> Result | None:
        client = await _running(settings.storage.state_dir, settings)
        if client is None:
            return None
        with _server_end_reported():
            try:
                return await work(client)
            finally:
                await client.aclose()

    return _run(with_client())


def wait_until_known(config: Path | None) -> None:
    """Wait until every process of the server knows of a change. On SQLite there is only one process."""
    from app.cli.config import load_or_exit

    if load_or_exit(config).storage.database_url is not None:
        time.sleep(SPREAD_SECONDS)


async def call(client: "HttpClient", method: str, path: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    """Make one call of the admin API and return its JSON. Raises CommandFailedError with the server's message."""
    answer = await client.request(method, f"/admin/api{path}", **arguments)
    if answer.is_error:
        raise CommandFailedError(_words_of(answer))
    return answer.json()


def part(name: str) -> str:
    """A name, quoted as one segment of a path."""
    return quote(name, safe="")


async def lines_of(answer: "HttpAnswer") -> "AsyncIterator[str]":
    """The lines of an answer, read as they come. httpx2's own lines also end at U+2028, which some names contain."""
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
def _server_end_reported() -> "Iterator[None]":
    from app.upstream.api.http_client import Unreachable

    try:
        yield
    except Unreachable:
        raise CommandFailedError(
            "the server ended before it answered; check whether the change was made, then try again"
        ) from None


@asynccontextmanager
async def _client(settings: "Settings", *, makes: bool, reads: bool) -> "AsyncIterator[HttpClient]":
    from app.store.faults import StoreFault

    try:
        with _server_end_reported():
            async with AsyncExitStack() as stack:
                yield await _reached(settings, stack, makes=makes, reads=reads)
    except StoreFault as error:
        raise CommandFailedError(str(error)) from None


async def _reached(settings: "Settings", stack: AsyncExitStack, *, makes: bool, reads: bool) -> "HttpClient":
    """A client of the running server, or of this process. Waits if the store is locked: a server may be starting."""
    from app.store.faults import StoreBusy

    give_up_at = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        running = await _running(settings.storage.state_dir, settings)
        if running is not None:
            stack.push_async_callback(running.aclose)
            return running
        try:
            return await _in_process(settings, stack, makes=makes, reads=reads)
        except StoreBusy:
            if time.monotonic() >= give_up_at:
                raise


async def _in_process(settings: "Settings", stack: AsyncExitStack, *, makes: bool, reads: bool) -> "HttpClient":
    from app.main import create_app
    from app.settings.admin_key import admin_key
    from app.upstream.api.http_client import in_process_client

    new = no_ledger(settings)
    if new is not None and not makes:
        raise CommandFailedError(new)
    if settings.storage.database_url is not None and not makes and not settings.storage.state_dir.exists():
        settings = _without_state_dir(settings, stack)
    app = create_app(settings, lock_wait_seconds=_LOOK_SECONDS)
    await stack.enter_async_context(app.router.lifespan_context(app))
    if reads:
        await app.state.finish_writing()
    if new is not None:
        typer.echo(f"No server runs here, so a new ledger was made in {settings.storage.state_dir}.", err=True)
    return await stack.enter_async_context(in_process_client(app, _authorization(admin_key(settings))))


def no_ledger(settings: "Settings") -> str | None:
    """A message if the ledger should be in the state directory and is not there yet; else None. Makes nothing."""
    from app.store.lock import LOCK_NAME
    from app.store.sqlite.store import DATABASE_NAME

    storage = settings.storage
    if storage.database_url is not None or not all(
        _is_missing(storage.state_dir / name)
        for name in (DATABASE_NAME, LOCK_NAME)  # a first start makes the lock first
    ):
        return None
    return (
        f"there is no ledger in {storage.state_dir} yet: start a server with `weighbridge serve`, "
        "or name its state directory with --config FILE or WEIGHBRIDGE_STATE_DIR"
    )


def _is_missing(path: Path) -> bool:
    """Whether the path certainly does not exist. For a directory that cannot be read, opening it later raises."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _without_state_dir(settings: "Settings", stack: AsyncExitStack) -> "Settings":
    """Settings with a temporary state directory, for a database on another machine."""
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="weighbridge-")))
    storage = settings.storage.model_copy(update={"state_dir": directory})
    return settings.model_copy(update={"storage": storage})


async def _running(state_dir: Path, settings: "Settings") -> "HttpClient | None":
    """A client of the server that the note in the state directory names, or None if it does not answer."""
    socket_path = _noted_socket(state_dir)
    if socket_path is None:
        return None
    from app.settings.admin_key import admin_key
    from app.upstream.api.http_client import Unreachable, socket_client

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
    """The socket of the admin API. Raises UntrustedFile if another user may have made it, or the note."""
    from app.private_files import check_own, read_own
    from app.store.lock import NOTE_NAME

    try:
        note = json.loads(read_own(state_dir / NOTE_NAME))
        noted = Path(note["admin_socket"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not noted.exists():
        noted = state_dir / "admin.sock"  # the volume may be mounted at another path here
    check_own(noted)
    return noted


def _authorization(admin_key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {admin_key}", "x-weighbridge-actor": f"cli:{_user()}"}


def _user() -> str:
    """The user who runs this command, for the audit log: a name, or a number that has no name."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
    return name if name.isascii() and name.isprintable() else str(number)


def _words_of(answer: "HttpAnswer") -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered HTTP {answer.status_code}"
