"""The usage reconciler asks upstream about calls that ended without a usage, and amends their records.

    committed ──> waiting ──> asked after 1 s, 2, 4 ... 60 ──answer──> amended, or left as it is without a usage
    the ledger ──────^                      │
    (at the start, after crashes of others) └── none within an hour ──> given up until the next start

It asks each minute about a background call that is still running, for a day at most.

No call waits for it. What it has not settled stays in the ledger, and is found there at the next start. An upstream
that has never told a usage is on trial: it is asked about a few calls at a time, the newest first, and left alone for
an hour after ten fruitless attempts for one call.
"""

import asyncio
import contextlib
import heapq
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from app.domain.answer.usage import Usage
from app.domain.backoff import backoff_seconds
from app.domain.records import NOTHING_TO_TELL, Record, UsageSource, book_of
from app.gateway.exchange.settlement import settle_by_upstream
from app.gateway.ports import StillRunning, UnsettledReports, UpstreamUsage, UsageLookup, UsageNotKept
from app.gateway.services import Services

_log = logging.getLogger(__name__)

AT_ONCE = 4
PATIENCE_SECONDS = 3600.0
LOOK_UP_SECONDS = 15.0
LOOK_SECONDS = 30.0
"""How often it checks whether other processes have left calls to settle."""
TRIAL_ATTEMPTS = 10
PAUSE_SECONDS = 3600.0
MOST_CASES = 5_000
"""Records in memory, about 10 MB. The rest is fetched from the ledger when there is room again."""
REACH_MICROSECONDS = 24 * 3_600_000_000
"""How far back the ledger is searched for unsettled calls."""

_PAGE = 200
_OPEN_SOURCES = frozenset((UsageSource.NONE, UsageSource.ESTIMATED))


def wants(record: Record) -> bool:
    """Whether upstream may know more of a settled call than the ledger."""
    return record.usage_source in _OPEN_SOURCES and record.has_usage_record and record.outcome not in NOTHING_TO_TELL


@dataclass(slots=True)
class _Case:
    record: Record
    give_up_at: float
    attempts: int = 0
    misses: int = 0  # attempts for which upstream had no usage record


class UsageReconciler:
    """Made on the loop. Only `committed` and `unsettled` may be used from other threads.

    `chance` returns 0 to 1, for jitter. `amended` is called with the old and the new record of each amendment.
    `interrupted` returns how many calls of dead processes were closed here: when it grows, the ledger has new cases.
    """

    def __init__(  # noqa: PLR0913 - its neighbours, and chance
        self,
        lookup: UsageLookup,
        reports: UnsettledReports,
        services: Services,
        chance: Callable[[], float] = random.random,
        *,
        amended: Callable[[Record, Record], None] = lambda *_: None,
        interrupted: Callable[[], int] = lambda: 0,
    ) -> None:
        self._book = book_of(services.upstream.name)  # upstream does not know the calls of the other Book
        self._lookup = lookup
        self._reports = reports
        self._ledger = services.ledger
        self._prices = services.prices
        self._observer = services.observer
        self._key_guard = services.key_guard
        self._clock = services.clock
        self._chance = chance
        self._amended = amended
        self._interrupted = interrupted
        self._fetched_at = 0  # `interrupted` at the last fetch
        self._loop = asyncio.get_running_loop()
        self._cases: dict[str, _Case] = {}  # all cases, by request id
        self._due: list[tuple[float, str]] = []  # a heap: when to ask next
        self._reserve: list[str] = []  # cases that wait for the end of the trial
        self._trusted = False  # upstream has told a usage once
        self._paused_until = 0.0
        self._behind = True  # the ledger has cases that are not here
        self._forgotten: set[str] = set()  # cases that somebody else settled
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def unsettled(self) -> int:
        """How many calls wait to be settled."""
        return len(self._cases)

    def start(self) -> None:
        """Begin with the unsettled records of the ledger."""
        self._task = asyncio.create_task(self._work(), name="usage-reconciler")

    async def close(self) -> None:
        """Stop at once. Unsettled calls stay in the ledger."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def committed(self, records: Iterable[Record]) -> None:
        """Take those of these durable records that need a usage. Any thread may call it."""
        wanted = [record for record in records if wants(record)]
        if wanted:
            self._loop.call_soon_threadsafe(self.take, wanted)

    def take(self, records: Iterable[Record]) -> None:
        """Ask upstream about these records later. Known ones are skipped."""
        now = self._clock.monotonic()
        for record in records:
            if record.request_id in self._cases:
                continue
            if len(self._cases) >= MOST_CASES or now < self._paused_until:
                self._behind = True
                break
            self._cases[record.request_id] = _Case(record, now + PATIENCE_SECONDS)
            self._reserve.append(record.request_id)
        self._call_up()
        self._news.set()

    def forget(self, request_id: str) -> None:
        """Drop a call that somebody else has settled."""
        if self._cases.pop(request_id, None) is not None:
            self._due = [due for due in self._due if due[1] != request_id]
            heapq.heapify(self._due)
            if request_id in self._reserve:
                self._reserve.remove(request_id)
            self._forgotten.add(request_id)

    async def ask_due(self) -> float | None:
        """Ask about all calls that are due; returns the seconds until the next is due, None if none waits."""
        interrupted = self._interrupted()
        if interrupted != self._fetched_at:
            self._fetched_at, self._behind = interrupted, True
        if self._behind and self._clock.monotonic() >= self._paused_until and len(self._cases) <= MOST_CASES // 2:
            await self._fetch()
        while cases := self._take_due():
            await asyncio.gather(*map(self._ask, cases))
        now = self._clock.monotonic()
        if self._due:
            return max(0.0, self._due[0][0] - now)
        return max(0.0, self._paused_until - now) if self._behind else None

    async def _work(self) -> None:
        while True:
            self._news.clear()
            try:
                seconds = await self.ask_due()
            except Exception:  # noqa: BLE001 - the next round must come
                _log.exception("unsettled calls could not be settled; trying again")
                seconds = PATIENCE_SECONDS / 60
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if seconds is None else min(seconds, LOOK_SECONDS)):
                    await self._news.wait()

    async def _fetch(self) -> None:
        """Take unsettled records from the ledger, as far as there is room."""
        self._behind = False
        since = self._clock.wall_us() - REACH_MICROSECONDS
        while True:
            try:
                page = await self._reports.unsettled(since, _PAGE)
            except BaseException:
                self._behind = True
                raise
            known = len(self._cases)
            self.take(record for record in page if book_of(record.upstream) is self._book)
            if len(page) < _PAGE or self._behind:
                return
            if len(self._cases) == known and page[-1].started_at == since:
                since += 1  # the whole page is of one microsecond
            else:
                since = page[-1].started_at

    def _call_up(self) -> None:
        """Plan the first attempt for the cases in reserve: for all, or on trial for the newest few."""
        while self._reserve and (self._trusted or len(self._due) < AT_ONCE):
            self._plan(self._reserve.pop(), 0)

    def _plan(self, request_id: str, attempts: int) -> None:
        due = self._clock.monotonic() + backoff_seconds(attempts, self._chance())
        heapq.heappush(self._due, (due, request_id))

    def _take_due(self) -> list[_Case]:
        now = self._clock.monotonic()
        ready: list[_Case] = []
        while self._due and self._due[0][0] <= now and len(ready) < AT_ONCE:
            ready.append(self._cases[heapq.heappop(self._due)[1]])
        return ready

    async def _ask(self, case: _Case) -> None:
        record = case.record
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                entry = await self._lookup.look_up(record)
        except UsageNotKept:
            self._pause()
            return
        except StillRunning:
            self._trust()
            if self._clock.wall_us() - record.started_at < REACH_MICROSECONDS:
                case.give_up_at = self._clock.monotonic() + PATIENCE_SECONDS
            self._ask_again(case)
            return
        except Exception as error:  # noqa: BLE001 - the call is asked about again
            reason = str(error) or type(error).__name__
            _log.debug("upstream could not be asked for the usage of %s: %s", record.request_id, reason)
            self._ask_again(case)
            return
        if record.request_id in self._forgotten:
            self._forgotten.discard(record.request_id)
            return
        if entry is None:
            case.misses += 1
            self._ask_again(case)
            return
        if entry.usage is None:
            _log.info("upstream has no usage of %s", record.request_id)
        else:
            self._settle(record, entry.usage, entry)
        self._cases.pop(record.request_id, None)  # a pause may have removed it meanwhile
        self._trust()

    def _settle(self, record: Record, usage: Usage, entry: UpstreamUsage) -> None:
        settled = replace(record)
        settle_by_upstream(settled, usage, entry, self._prices)
        self._key_guard.keep_out(settled)
        self._ledger.amend(settled)
        self._observer.amended(settled)
        self._amended(record, settled)

    def _trust(self) -> None:
        """Upstream keeps usage records: ask about all waiting cases."""
        self._trusted = True
        self._call_up()

    def _ask_again(self, case: _Case) -> None:
        request_id = case.record.request_id
        case.attempts += 1
        if request_id not in self._cases:
            return
        enough = case.misses >= TRIAL_ATTEMPTS
        deleted = enough and case.record.generation_id is None  # a response can be deleted, which ends no trial
        if enough and not (self._trusted or deleted):
            self._pause()
        elif deleted or self._clock.monotonic() >= case.give_up_at:
            del self._cases[request_id]
            self._call_up()
            _log.info("upstream has no usage record of %s: usage stays %s", request_id, case.record.usage_source)
        else:
            self._plan(request_id, case.attempts)

    def _pause(self) -> None:
        """Upstream seems to keep no usage records: drop all cases, and fetch them from the ledger after the pause."""
        _log.info("upstream tells no usage afterwards: asking again in an hour, calls: %d", len(self._cases))
        self._cases.clear()
        self._due.clear()
        self._reserve.clear()
        self._behind = True
        self._paused_until = self._clock.monotonic() + PAUSE_SECONDS
