import asyncio
from collections.abc import Callable

from app.telemetry.loop_lag import LoopLag


class HandDriven:
    """Timers and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> "HandDriven":
        self.waiting.append((self.now + delay, callback))
        return self

    def cancel(self) -> None:
        self.waiting.clear()

    def fire(self, *, late: float) -> None:
        due, callback = self.waiting.pop()
        self.now = due + late
        callback()


def test_it_tells_how_late_each_timer_fires() -> None:
    timers, seen = HandDriven(), list[float]()
    lag = LoopLag(seen.append, interval_seconds=0.5, clock=lambda: timers.now)
    lag.start(timers.call_later)
    for late in (0.0, 0.25, -0.125, 2.0):  # a timer may fire a little early: that is no lag
        assert [due for due, _ in timers.waiting] == [timers.now + 0.5]
        timers.fire(late=late)
    assert seen == [0.0, 0.25, 0.0, 2.0]


def test_after_stop_there_is_no_timer() -> None:
    timers, seen = HandDriven(), list[float]()
    lag = LoopLag(seen.append, clock=lambda: timers.now)
    lag.start(timers.call_later)
    lag.stop()
    lag.stop()
    assert not timers.waiting
    assert not seen


async def test_it_runs_on_a_real_loop() -> None:
    seen = asyncio.Queue[float]()
    lag = LoopLag(seen.put_nowait, interval_seconds=0.001)
    lag.start()
    first, second = await seen.get(), await seen.get()
    lag.stop()
    assert min(first, second) >= 0
