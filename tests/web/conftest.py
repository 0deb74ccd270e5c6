"""A running front for every test that asks for one."""

from collections.abc import AsyncIterator

import pytest

from app.web.application import Application
from tests.gateway.house import House
from tests.web.front import Front, make_app, running


@pytest.fixture
def house() -> House:
    """Records are durable at once; tests that hold the commit back set `ledger.at_once`."""
    return House(max_streams=20, at_once=True)


@pytest.fixture
def app(house: House) -> Application:
    return make_app(house)


@pytest.fixture
async def front(house: House, app: Application) -> AsyncIterator[Front]:
    async with running(house, app) as front:
        yield front
