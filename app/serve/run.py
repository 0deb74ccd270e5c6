"""One run of the server, from opening to closing.

    [mock upstream] ──> the application's lifespan ──> socket, uvicorn ──signal──> drain ──> lifespan ends, ledger kept

Everything is closed in reverse order, also after an error. No signal ends the process in the middle of this.
"""

import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from app.domain.records import DEMO_UPSTREAM
from app.main import create_app
from app.serve.first_key import FirstKey
from app.serve.server import CannotListenError, listen, other_urls, serve
from app.serve.signals import StopSignals
from app.serve.welcome import Welcome
from app.settings import Secret, Settings
from app.store.faults import StoreFault
from app.telemetry.logging import LogOutput

if TYPE_CHECKING:
    from app.mock.options import MockOptions

DEMO_BOOKS_NAME = "demo-books.jsonl"
LOCK_WAIT_SECONDS = 3.0
"""How long a start waits for a command that uses the database."""


class Problem(Exception):
    """The server cannot run. The message is for the person who started it."""


async def run(settings: Settings, log: LogOutput, *, demo: bool) -> None:
    """Serve until told to stop. Raises Problem."""
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        if demo:
            settings = await with_mock(settings, stack)
        app = create_app(settings, log, lock_wait_seconds=LOCK_WAIT_SECONDS)
        try:
            await stack.enter_async_context(app.router.lifespan_context(app))
        except StoreFault as fault:
            raise Problem(str(fault)) from None
        try:
            listener = stack.enter_context(listen(settings.server.host, settings.server.port))
        except CannotListenError as error:
            raise Problem(str(error)) from None
        first_key = FirstKey(app.state.clients, app.state.audit, settings.storage.state_dir)
        welcome = Welcome(settings, await first_key.to_show(), demo=demo)

        def started(url: str) -> None:
            welcome.show(settings.server.public_url or url, other_urls(listener))
            first_key.shown()

        if not signals.came:
            await serve(settings, app, listener, started)


async def with_mock(settings: Settings, stack: AsyncExitStack, *, alone: bool = True) -> Settings:
    """Start the mock upstream on a free port of this machine, and return settings that point to it.

    Limits are kept in this process, since Redis holds those of real calls. A mock that is `alone` sees all calls and
    keeps its usage records in the state directory; another one keeps none.
    """
    from app.mock.options import MOCK_HEADERS
    from app.mock.server import running_mock

    key = f"sk-mock-{secrets.token_hex(16)}"
    url = await stack.enter_async_context(running_mock(_mock_options(settings, key, alone=alone)))
    headers = (*settings.upstream.pass_headers, MOCK_HEADERS)
    change = {"name": DEMO_UPSTREAM, "base_url": url, "key": Secret(key), "pass_headers": headers}
    upstream = settings.upstream.model_copy(update=change)
    storage = settings.storage.model_copy(update={"redis_url": None})
    return settings.model_copy(update={"upstream": upstream, "storage": storage})


def _mock_options(settings: Settings, key: str, *, alone: bool) -> "MockOptions":
    from app.mock.options import MockOptions

    books_file = settings.storage.state_dir / DEMO_BOOKS_NAME if alone else None
    return MockOptions(key=key, books_file=books_file, keeps_accounts=alone)
