"""Long work in short steps, so that no other call waits for it."""

import asyncio
from collections.abc import Callable, Generator
from typing import TypeVar

Result = TypeVar("Result")


class AbandonedError(Exception):
    """The caller no longer needs the result."""


async def run_in_slices(
    work: Generator[None, None, Result], gone: Callable[[], bool] = lambda: False, turn: asyncio.Lock | None = None
) -> Result:
    """Run the work to its end, and let the loop run between two steps.

    All works that share a `turn` make one step together in each turn of the loop. Their first steps are not counted,
    since most works have only one. Raises what the work raises, or AbandonedError once `gone()` is true.
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
