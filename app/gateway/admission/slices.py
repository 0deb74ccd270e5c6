"""Long work in short steps, so that no other call waits for it."""

import asyncio
from collections.abc import Callable, Generator
from typing import TypeVar

Result = TypeVar("Result")


class AbandonedError(Exception):
    """Nobody waits for the result any more."""


async def run_in_slices(work: Generator[None, None, Result], gone: Callable[[], bool] = lambda: False) -> Result:
    """Run to the end; whatever else is due on the loop goes between two steps.

    Raises what the work raises, or AbandonedError once `gone()` says that nobody waits for it.
    """
    while True:
        if gone():
            raise AbandonedError
        try:
            next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        await asyncio.sleep(0)
