"""The backlog loses nothing, keeps the order, and waits longer each time."""

from hypothesis import given
from hypothesis import strategies as st

from app.store.backlog import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, Backlog
from app.store.pending import Pending
from tests.store.samples import Samples


def some(count: int) -> list[Pending]:
    samples = Samples()
    return [Pending(samples.settled(), lambda: None, 0.0) for _ in range(count)]


@given(st.lists(st.tuples(st.sampled_from(["arrive", "refuse", "accept"]), st.integers(0, 5))))
def test_records_leave_in_the_order_they_came_whatever_storage_says(steps: list[tuple[str, int]]) -> None:
    everything = some(5 * len(steps) + 1)
    coming = iter(everything)
    backlog = Backlog()
    backlog.refused([], [next(coming)], "full", 0.0)
    accepted: list[Pending] = []
    for step, count in steps:
        if step == "arrive":
            backlog.shelve([], [next(coming) for _ in range(count)])
            continue
        _, batch = backlog.take(count)
        if step == "refuse":
            backlog.refused([], batch, "full", 0.0)
        else:
            accepted += batch
            backlog.taken()
    _, rest = backlog.take(len(backlog))
    arrived = len(everything) - len(list(coming))
    assert accepted + rest == everything[:arrived]


def test_each_wait_is_longer_up_to_a_limit_and_success_ends_it() -> None:
    backlog = Backlog()
    one = some(1)
    waits = []
    for _ in range(10):
        backlog.refused([], one, "locked", 100.0)
        backlog.take(1)
        waits.append(backlog.wait_seconds(100.0))
    assert waits == sorted(waits)
    assert abs(waits[0] - FIRST_RETRY_SECONDS) < 1e-6
    assert abs(waits[-1] - LONGEST_RETRY_SECONDS) < 1e-6
    assert backlog.problem == "locked"
    backlog.taken()
    assert backlog.problem is None
    assert backlog.wait_seconds(0.0) == 0.0


def test_the_trouble_is_not_over_while_rows_of_open_calls_wait() -> None:
    backlog = Backlog()
    backlog.refused([("a",), ("b",)], some(1), "locked", 0.0)
    assert backlog.take(1)[0] == [("a",)]
    backlog.taken()
    assert backlog.problem == "locked"
    assert backlog.take(1) == ([("b",)], [])
    backlog.taken()
    assert backlog.problem is None
