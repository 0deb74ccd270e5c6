"""The state directory: made where it is missing, and its table of open calls."""

from pathlib import Path

from app.store.lock import usable
from app.store.spool.left_calls import settle_left_calls
from app.store.spool.open_calls import OpenCalls


def table_of_open_calls(state_dir: Path, slots: int) -> OpenCalls | None:
    """Settle what a killed process left in its table, and make a new one with so many slots. Raises StoreUnusable."""
    with usable(state_dir):
        settle_left_calls(state_dir, state_dir)
        return OpenCalls(state_dir, slots) if slots else None


def make_directory(path: Path) -> None:
    """Make a directory. One that exists keeps its mode: it may be a volume that others have set up."""
    with usable(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
