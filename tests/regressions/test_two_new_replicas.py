"""Two brand-new replicas that began at once on an empty PostgreSQL both made and printed a first key."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

from app.gateway.audit import AuditLog
from app.gateway.clients.keys import KeyDirectory, KeyService
from app.serve.first_key import FIRST_CLIENT, NOTE_NAME, FirstKey
from app.store.opening import opened_store
from app.store.options import wall_us
from app.store.store import Store
from tests.e2e.program import Gateway, Mock
from tests.store.postgres_server import PostgresServer


def first_key(store: Store, folder: Path) -> FirstKey:
    return FirstKey(KeyService(store.clients, KeyDirectory(), wall_us), AuditLog(store.audit, wall_us), folder)


async def test_of_many_that_see_no_client_one_makes_a_key(tmp_path: Path, postgres_url: str) -> None:
    """All have looked before any has written; those that come too late leave no note behind."""
    folders = [tmp_path / f"{number}" for number in range(4)]
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(opened_store(postgres_url, folder, process=number))
            for number, folder in enumerate(folders)
        ]
        shown = await asyncio.gather(*(first_key(*pair).to_show() for pair in zip(stores, folders, strict=True)))
        assert len([key for key in shown if key is not None]) == 1
        assert len(await stores[0].clients.list_keys()) == 1
        assert [client.name for client in await stores[0].clients.list_clients()] == [FIRST_CLIENT]
        assert [(folder / NOTE_NAME).exists() for folder in folders] == [key is not None for key in shown]


def test_two_servers_print_one_key_between_them(
    mock_process: Mock, canary_key: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.url(postgres.new_database())

    def start(name: str) -> Gateway:
        folder = tmp_path / name
        folder.mkdir()
        env = {"WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1", "WEIGHBRIDGE_DATABASE_URL": url}
        return Gateway(folder, canary_key, **env)

    with ThreadPoolExecutor() as pool:
        one, two = pool.map(start, ("one", "two"))
    with one, two:
        assert [one.first_key, two.first_key].count(None) == 1
        assert "ready at" in one.process.out
        assert "ready at" in two.process.out
