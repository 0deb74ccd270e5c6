"""Upstream's lists of models: kept for some minutes, and served for longer while upstream does not give a new one.

    kept ──300 s──> due ──a request asks──> refreshing ──answer──> kept
                                                └──no answer──> kept as it was, due again after 15 s

Each list is refreshed by one request to upstream at a time, and all requests that come meanwhile share it. There is one
list without a version, and one for each of the newest versions of Codex that asked.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.domain.errors import Overloaded, UpstreamAuthFailed, UpstreamErrorReplaced, UpstreamFault, UpstreamUnreachable
from app.gateway.exchange.key_guard import KeyGuard
from app.gateway.model_list import ModelList
from app.upstream.api.client import UpstreamApi, UpstreamQueryFailed

_log = logging.getLogger(__name__)

KEPT_SECONDS = 300.0
RETRY_SECONDS = 15.0
FETCH_SECONDS = 20.0
STALE_WAIT_SECONDS = 1.0
"""How long a request waits for a new list when an old one is there."""

MOST_VERSIONS = 4
_NO_ROUTE = frozenset((404, 405, 501))
_KEY_REFUSED = frozenset((401, 403))


@dataclass(slots=True)
class _Kept:
    """A list, when it is due, and what went wrong the last time."""

    models: ModelList | None = None
    due: float = 0.0
    failed: UpstreamQueryFailed | None = None
    refreshing: asyncio.Task[None] | None = None


class UpstreamModelLists:
    """The gateway's ModelLists. `api` has the server's key, `priced` are the names of the operator's prices.

    `priced` is what is listed, beside names of allow-lists, where upstream has no route for models. `now` gives
    seconds, monotonic.
    """

    def __init__(self, api: UpstreamApi, key_guard: KeyGuard, priced: Iterable[str], now: Callable[[], float]) -> None:
        self._api = api
        self._key_guard = key_guard
        self._priced = tuple(priced)
        self._now = now
        self._lists: dict[str | None, _Kept] = {None: _Kept()}  # versions, the one that was asked for last at the end
        self._problem: str | None = None

    def keeps(self, client_version: str | None) -> bool:
        """Whether there is an entry for this version."""
        return client_version in self._lists

    async def get(self, client_version: str | None) -> ModelList:
        """The list. Waits for upstream only if there is none, or 1 s for a newer one."""
        kept = self._kept(client_version)
        if kept.refreshing is None and self._now() >= kept.due:
            kept.refreshing = asyncio.create_task(self._refresh(client_version, kept), name="model-list")
        if kept.refreshing is not None:
            await asyncio.wait((kept.refreshing,), timeout=None if kept.models is None else STALE_WAIT_SECONDS)
        if kept.models is None:
            raise _fault(kept.failed)
        return kept.models

    async def close(self) -> None:
        """Stop asking."""
        for kept in self._lists.values():
            if kept.refreshing is not None:
                kept.refreshing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await kept.refreshing

    def _kept(self, version: str | None) -> _Kept:
        """Raises Overloaded when all versions that are kept are being fetched."""
        kept = self._lists.pop(version, None)
        if kept is None:
            idle = [known for known, held in self._lists.items() if known is not None and held.refreshing is None]
            if len(self._lists) > MOST_VERSIONS:
                if not idle:
                    raise Overloaded("This server fetches lists of models for other versions. Try again in a moment.")
                del self._lists[idle[0]]
            kept = _Kept()
        self._lists[version] = kept
        return kept

    async def _refresh(self, version: str | None, kept: _Kept) -> None:
        """Never raises."""
        wait = RETRY_SECONDS
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                kept.models = await self._fetch(version, kept.models)
            kept.failed, wait = None, KEPT_SECONDS
            self._note(None)
        except UpstreamQueryFailed as error:
            kept.failed = error
        except TimeoutError:
            kept.failed = UpstreamQueryFailed(f"GET /models: no whole answer within {FETCH_SECONDS:g} s")
        except Exception:  # noqa: BLE001 - whatever it is, the next list may be better
            _log.exception("the list of models could not be read")
            kept.failed = UpstreamQueryFailed("GET /models: the answer could not be read", 200)
        finally:
            kept.due, kept.refreshing = self._now() + wait, None
        if kept.failed is not None:
            self._note(str(kept.failed))

    async def _fetch(self, version: str | None, known: ModelList | None) -> ModelList:
        """Raises UpstreamQueryFailed."""
        status, body = await self._api.fetch_bytes("/models", None if version is None else {"client_version": version})
        if status in _NO_ROUTE and (known is None or known.from_names):
            return ModelList.of_names(self._priced, codex=version is not None)
        if status != 200:
            raise UpstreamQueryFailed(f"GET /models: upstream answered HTTP {status}", status)
        return await asyncio.to_thread(self._read, body, codex=version is not None)

    def _read(self, body: bytes, *, codex: bool) -> ModelList:
        """In a thread: a list of megabytes takes long to decode."""
        if self._key_guard.watch().screen(body) is None:
            raise UpstreamQueryFailed("GET /models: the answer holds the server's key", 200)
        try:
            return ModelList.read(body, codex=codex)
        except ValueError:
            raise UpstreamQueryFailed("GET /models: the answer is no list of models", 200) from None

    def _note(self, problem: str | None) -> None:
        """Tell the log what is new."""
        if problem == self._problem:
            return
        self._problem = problem
        if problem is None:
            _log.info("upstream gives its list of models again")
        else:
            _log.warning("upstream gives no new list of models, clients get the last one if there is one: %s", problem)


def _fault(failed: UpstreamQueryFailed | None) -> UpstreamFault:
    detail = None if failed is None else str(failed)
    status = None if failed is None else failed.status
    if status is None:
        return UpstreamUnreachable("Upstream gives no list of models at the moment. Try again later.", detail=detail)
    if status in _KEY_REFUSED:
        message = "Upstream refused the server's key when it was asked for the list of models. Tell your operator."
        return UpstreamAuthFailed(message, detail=detail)
    return UpstreamErrorReplaced("Upstream's answer for the list of models cannot be used.", detail=detail)
