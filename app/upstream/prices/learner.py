"""Asks upstream for its list of models, at the start and about once a day, to learn its prices.

No call waits for it. A failure leaves the price book as it is; it is logged once and shown by `weighbridge prices`.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

import orjson

from app.upstream.api.client import UpstreamApi, UpstreamQueryFailed
from app.upstream.prices.bundled import BundledPrices
from app.upstream.prices.learned import LearnedPrices, read_models

_log = logging.getLogger(__name__)

FIRST_SECONDS = 1.0
"""After the start, so that making the client does not slow it."""
DAY_SECONDS = 86_400.0
RETRY_SECONDS = 300.0
MOST_RETRY_SECONDS = 6 * 3600.0
FETCH_SECONDS = 60.0


class PriceLearner:
    """For one upstream. `problem` tells operators why no prices are learned; None if some are."""

    def __init__(
        self,
        api: UpstreamApi,
        book: BundledPrices,
        upstream: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.problem: str | None = "upstream was not asked yet"
        self._api = api
        self._book = book
        self._source = f"{upstream} /models"
        self._now = now
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Self:
        """Start to ask."""
        self._task = asyncio.create_task(self._work(), name="price-learner")
        return self

    async def close(self) -> None:
        """Stop at once."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def ask(self) -> bool:
        """Ask once. Returns whether upstream answered with a list of models."""
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                learned = await self._fetch()
        except (UpstreamQueryFailed, TimeoutError) as error:
            self._note(str(error) or f"GET /models: no answer within {FETCH_SECONDS:g} s")
            return False
        if learned.models:
            self._book.learn(learned)
            self._note(None)
        else:
            self._note("upstream's list of models names no prices")
        return True

    def _note(self, problem: str | None) -> None:
        """Log a changed problem."""
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            _log.info("learned prices from upstream's list of models, names: %d", len(self._book.learned.models))
        else:
            _log.info("no prices could be learned from upstream; known prices stay: %s", problem)

    async def _work(self) -> None:
        wait, retry = FIRST_SECONDS, RETRY_SECONDS
        while True:
            await asyncio.sleep(wait)
            try:
                answered = await self.ask()
            except Exception:  # noqa: BLE001 - it tries again later
                _log.exception("prices could not be learned")
                answered = False
            if answered:
                wait, retry = DAY_SECONDS * random.uniform(0.9, 1.1), RETRY_SECONDS  # noqa: S311 - so that replicas part
            else:
                wait, retry = retry, min(2 * retry, MOST_RETRY_SECONDS)

    async def _fetch(self) -> LearnedPrices:
        status, body = await self._api.fetch_bytes("/models")
        if status != 200:
            raise UpstreamQueryFailed(f"GET /models: upstream answered HTTP {status}", status)
        return await asyncio.to_thread(_read, body, self._source, self._now().date().isoformat())


def _read(body: bytes, source: str, date: str) -> LearnedPrices:
    """Decode the list. Runs in a thread, since megabytes take long."""
    try:
        return read_models(orjson.loads(body), source, date)
    except ValueError:
        raise UpstreamQueryFailed("GET /models: the answer is no JSON") from None
