"""The table of open calls: what is in it when a process is killed is found, whole or not at all, and settled once."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money.worst_case import WorstCase
from app.domain.records import Record
from app.private_files import allocate
from app.store.spool.left_calls import settle_left_calls
from app.store.spool.open_calls import FILE_NAME, HALF_BYTES, SLOT_BYTES, OpenCalls, left_in
from app.store.spool.orphaned_spools import inherit
from app.store.spool.spool import Spool
from app.store.sqlite.store import DATABASE_NAME, open_store
from tests.store.samples import Samples, settle, stored, until

samples = Samples()


def a_call(**values: Any) -> Record:  # noqa: ANN401 - Record's fields
    named = {"model_requested": "openai/gpt-5.5", "stream": True, "bytes_in": 812, "program": "codex", **values}
    return samples.open(**named)


def test_a_call_is_found_as_it_was(tmp_path: Path) -> None:
    table = OpenCalls(tmp_path, 10)
    limited = a_call(background=True, worst_case=WorstCase(100, 2000, 7_000_000), upstream_key="main", session="s-1")
    plain = a_call()
    slots = [table.fill(call) for call in (limited, plain)]
    assert 0 not in slots
    limited.response_id = "resp_" + "x" * 440
    limited.generation_id, limited.http_status, limited.time_to_first_byte_ms = "gen-1", 200, 81.25
    table.note(slots[0], limited)
    assert left_in(tmp_path) == [plain, limited][:: 1 if slots[0] > slots[1] else -1]
    table.clear(slots[:1])
    assert left_in(tmp_path) == [plain]


@pytest.mark.parametrize("size", [0, 101 * SLOT_BYTES, 10_000 * SLOT_BYTES], ids=["none", "sparse", "longer"])
def test_its_room_is_on_the_disk(size: int, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch(0o600)
    os.truncate(tmp_path / FILE_NAME, size)
    OpenCalls(tmp_path, 100)
    found = (tmp_path / FILE_NAME).stat()
    assert found.st_size == 101 * SLOT_BYTES
    assert found.st_blocks * 512 >= found.st_size
    assert found.st_mode & 0o777 == 0o600


def test_a_full_table_says_so(tmp_path: Path) -> None:
    table = OpenCalls(tmp_path, 3)
    slots = [table.fill(a_call()) for _ in range(5)]
    assert slots[3:] == [0, 0]
    assert len(left_in(tmp_path)) == 3
    table.clear(slots[:1])
    assert table.fill(a_call()) == slots[0]


def test_what_is_not_to_be_written_has_no_slot(tmp_path: Path) -> None:
    table = OpenCalls(tmp_path, 3)
    assert table.fill(a_call(model_requested="\ud800")) == 0
    long = a_call(model_requested="😀" * 256, path="/responses/" + "x" * 2000, session="s" * 500)
    assert table.fill(long)
    found = left_in(tmp_path)[0]
    assert found.request_id == long.request_id
    assert found.model_requested == "😀" * 96


@given(cut=st.integers(0, SLOT_BYTES), call_first=st.booleans())
def test_a_process_killed_while_it_writes(cut: int, call_first: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A call that is half written was not sent. An id that is half written takes nothing else with it."""
    folder = tmp_path_factory.mktemp("table")
    OpenCalls(folder, 1)
    path = folder / FILE_NAME
    empty = path.read_bytes()
    call = a_call()
    table = OpenCalls(folder, 1)
    slot = table.fill(call)
    filled = path.read_bytes()
    if call_first:
        call.generation_id = "gen-" + "x" * 30
        table.note(slot, call)
        before, after = filled, path.read_bytes()
    else:
        before, after = empty, filled
    path.write_bytes(after[: slot + cut] + before[slot + cut :])
    found = left_in(folder)
    assert [one.request_id for one in found] in ([], [call.request_id])
    assert found or not call_first
    assert all(one.generation_id in {None, call.generation_id} for one in found)
    shutil.rmtree(folder)


def test_ids_of_the_call_before_are_not_taken_for_those_of_this_one(tmp_path: Path) -> None:
    table = OpenCalls(tmp_path, 1)
    first = a_call(generation_id="gen-1")
    slot = table.fill(first)
    table.note(slot, first)
    table.clear([slot])
    table.fill(a_call())
    assert left_in(tmp_path)[0].generation_id is None


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"weighbridge open calls 9\n" + b"\1" * 5000, os.urandom(9000)])
def test_a_file_that_is_no_table(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    (tmp_path / FILE_NAME).chmod(0o600)
    assert left_in(tmp_path) == []
    table = OpenCalls(tmp_path, 5)
    table.fill(a_call())
    assert len(left_in(tmp_path)) == 1


def test_damaged_slots_cost_no_other_ones(tmp_path: Path) -> None:
    table = OpenCalls(tmp_path, 3)
    slots = [table.fill(a_call()) for _ in range(3)]
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.seek(slots[1] + 40)
        file.write(b"??")
        file.seek(slots[2] + HALF_BYTES)
        file.write(b"\xff" * HALF_BYTES)
    assert len(left_in(tmp_path)) == 2


async def test_what_was_left_is_in_the_ledger_after_the_next_start(tmp_path: Path) -> None:
    """Also where the row of the open call, or of its end, had come to the database or the spool before the kill."""
    young, old, ended, durable = (a_call(worst_case=WorstCase(10, 20, 30)) for _ in range(4))
    async with open_store(tmp_path, open_calls=100) as store:
        for call in (young, old, ended, durable):
            store.ledger.admit(call)
        await settle(store.ledger, samples.settled())
        durable.outcome, durable.usage_source = samples.settled().outcome, samples.settled().usage_source
        await settle(store.ledger, durable)
        table_then = (tmp_path / FILE_NAME).read_bytes()
        assert {one.request_id for one in left_in(tmp_path)} == {one.request_id for one in (young, old, ended)}
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.execute("DELETE FROM records WHERE request_id = ?", (young.request_id,))
        connection.execute("UPDATE records SET outcome='completed' WHERE request_id = ?", (ended.request_id,))
        connection.commit()
    (tmp_path / FILE_NAME).write_bytes(table_then)
    for _ in range(2):  # and once is enough
        async with open_store(tmp_path, open_calls=100) as store:
            await store.ledger.caught_up()
            assert left_in(tmp_path) == []
    found = stored(tmp_path)
    assert found[young.request_id] == found[old.request_id] == "interrupted"
    assert found[ended.request_id] == found[durable.request_id] == "completed"
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        row = connection.execute(
            "SELECT usage_source, input_tokens, output_tokens, cost_nanousd, finished_at = started_at, duration_ms"
            " FROM records WHERE request_id = ?", (young.request_id,)
        ).fetchone()  # fmt: skip
    assert row == ("estimated", 10, 20, 30, 1, None)


async def test_a_proper_stop_leaves_nothing_in_the_table(tmp_path: Path) -> None:
    for _ in range(2):
        calls = [samples.settled() for _ in range(20)]
        async with open_store(tmp_path, open_calls=100) as store:
            for call in calls:
                store.ledger.admit(call)
            for call in calls:
                store.ledger.settle(call, lambda: None)
        assert left_in(tmp_path) == []
        assert all(stored(tmp_path)[call.request_id] == "completed" for call in calls)


async def test_more_calls_than_slots_get_their_rows_at_once(tmp_path: Path) -> None:
    calls = [a_call() for _ in range(5)]
    async with open_store(tmp_path, open_calls=2) as store:
        for call in calls:
            store.ledger.admit(call)
        await until(lambda: len(stored(tmp_path)) == 3)
        assert set(stored(tmp_path)) == {call.request_id for call in calls[2:]}


def test_a_table_stays_until_its_calls_are_durable(tmp_path: Path) -> None:
    OpenCalls(tmp_path, 5).fill(a_call())
    (tmp_path / "spool").touch()  # where no spool can be
    with pytest.raises(OSError, match="File exists"):
        settle_left_calls(tmp_path, tmp_path)
    assert len(left_in(tmp_path)) == 1
    (tmp_path / "spool").unlink()
    assert settle_left_calls(tmp_path, tmp_path) == 1
    assert left_in(tmp_path) == []
    spool = Spool(tmp_path)
    assert len(spool.read(10).settled) == 1
    spool.close()


def test_where_the_disk_has_no_room_there_are_fewer_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small_disk(descriptor: int, size: int) -> None:
        if size > 30 * SLOT_BYTES:
            raise OSError(28, "No space left on device")
        allocate(descriptor, size)

    monkeypatch.setattr("app.store.spool.open_calls.allocate", small_disk)
    assert OpenCalls(tmp_path, 100).fill(a_call())
    assert OpenCalls(tmp_path, 10_000).fill(a_call()) == 0


def test_a_parent_with_fewer_workers_settles_what_the_others_left(tmp_path: Path) -> None:
    first, last = tmp_path / "worker-1", tmp_path / "worker-3"
    for folder in (first, last, tmp_path):
        folder.mkdir(exist_ok=True)
        OpenCalls(folder, 5).fill(a_call())
    assert inherit(tmp_path, first, keep=2) == 0
    assert [len(left_in(folder)) for folder in (tmp_path, first, last)] == [0, 1, 0]
    spool = Spool(first)
    assert [len(spool.read(10).settled)] == [1]
    spool.close()
