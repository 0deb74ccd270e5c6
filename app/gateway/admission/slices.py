"""Long work in short steps, so that no other call waits for it."""

import asyncio
from collections.abc import Callable, Generator
from typing import TypeVar

Result = TypeVar("Result")


class AbandonedError(Exception):
    """Nobody waits for the result any more."""


async def run_in_slices(
    work: Generator[None, None, Result], gone: Callable[[], bool] = lambda: False, turn: asyncio.Lock | None = None
) -> Result:
    """Run to the end; whatever else is due on the loop goes between two steps.

    Those that share a `turn` go one step in each turn of the loop, all together: but for their first ones, since most
    have no other. Raises what the work raises, or AbandonedError once `gone()` says that nobody waits for it.
    """
    turn = turn or asyncio.Lock()
    if gone():
        raise AbandonedError
    try:
        next(work)
        await asyncio.sleep(0)
        while True:
            async with turn:
                if gone():
                    raise AbandonedError
                next(work)
                await asyncio.sleep(0)
    except StopIteration as end:
        result: Result = end.value
        return result
