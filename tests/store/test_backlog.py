"""The backlog loses no settled record, keeps the order, and lets amendments come last."""

from hypothesis import given
from hypothesis import strategies as st

from app.store.write.backlog import Backlog
from app.store.write.batch import Batch
from app.store.write.pending import Pending
from tests.store.samples import Samples


def some(count: int) -> list[Pending]:
    samples = Samples()
    return [Pending(samples.settled(), lambda: None, 0.0) for _ in range(count)]


@given(st.lists(st.tuples(st.sampled_from(["arrive", "refuse", "accept"]), st.integers(0, 5))))
def test_records_leave_in_the_order_they_came_whatever_storage_says(steps: list[tuple[str, int]]) -> None:
    everything = some(5 * len(steps))
    coming = iter(everything)
    backlog = Backlog()
    accepted: list[Pending] = []
    for step, count in steps:
        if step == "arrive":
            backlog.add(Batch(settled=[next(coming) for _ in range(count)]))
            continue
        batch = backlog.take(count)
        if step == "refuse":
            backlog.put_back(batch)
        else:
            accepted += batch.settled
    rest = backlog.take(len(backlog)).settled
    assert not backlog
    assert [*accepted, *rest] == everything[: len(everything) - len(list(coming))]


def test_an_amendment_waits_until_no_settled_record_is_left() -> None:
    backlog = Backlog()
    records = some(2)
    backlog.add(Batch(open=[("open",)], settled=records, amended=[("amended",)]))
    assert backlog.take(1) == Batch([("open",)], records[:1])
    assert backlog.take(1) == Batch([], records[1:], [("amended",)])
    assert not backlog


def test_rows_of_open_calls_are_bounded_and_the_oldest_go_first() -> None:
    backlog = Backlog()
    backlog.add(Batch(open=[(number,) for number in range(10_050)]))
    assert backlog.take(1).open == [(50,)]
