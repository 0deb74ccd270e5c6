"""The spool: on disk before anybody is told, read in order, deleted once stored, and what is damaged set aside."""

import stat
from pathlib import Path

import pytest

from app.store.schema.rows import Row, Rows, row_of
from app.store.spool.spool import SEGMENT_BYTES, Spool, spool_contents
from tests.store.samples import Samples


def some(count: int, process: int = 1) -> list[Row]:
    samples = Samples(process)
    return [row_of(samples.settled(1_790_000_000_000_000)) for _ in range(count)]


def read_all(spool: Spool, most: int = 4) -> list[Row]:
    found: list[Row] = []
    while spool:
        found += spool.read(most).settled
        spool.done()
    return found


def files(state_dir: Path) -> list[Path]:
    return sorted((state_dir / "spool").iterdir())


def test_rows_come_back_in_order_and_leave_nothing_behind(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert not spool
    assert list(tmp_path.iterdir()) == []
    rows = some(10)
    spool.append(Rows(settled=rows[:3]))
    spool.append(Rows(settled=rows[3:]))
    assert spool
    assert read_all(spool) == rows
    assert files(tmp_path) == []
    assert spool.damaged == 0


def test_the_files_are_private(tmp_path: Path) -> None:
    Spool(tmp_path).append(Rows(settled=some(1)))
    (file,) = files(tmp_path)
    assert oct(stat.S_IMODE(file.stat().st_mode)) == "0o600"
    assert oct(stat.S_IMODE(file.parent.stat().st_mode)) == "0o700"


def test_what_comes_while_it_is_read_is_read_later(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    rows = some(6)
    spool.append(Rows(settled=rows[:4]))
    assert spool.read(2).settled == rows[:2]
    assert spool.read(2).settled == rows[:2]  # not yet done
    spool.done()
    spool.append(Rows(settled=rows[4:]))
    assert read_all(spool) == rows[2:]


def test_the_next_process_reads_it_from_the_start_of_a_file(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    rows = some(6)
    first.append(Rows(settled=rows[:4]))
    first.read(2)
    first.done()
    first.append(Rows(settled=rows[4:]))
    first.close()
    second = Spool(tmp_path)
    assert second.inherited
    second.append(Rows(settled=some(1, process=2)))
    found: list[Row] = []
    while second.inherited:
        found += second.read(100).settled
        second.done()
    assert found == rows  # and none of its own, which must wait until what the first left open is closed
    assert read_all(second) == some(1, process=2)


def test_a_large_spool_is_divided_and_what_is_replayed_makes_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    rows = [row_of(Samples().settled(price="x" * (SEGMENT_BYTES // 3 - 1000))) for _ in range(7)]
    for row in rows:
        spool.append(Rows(settled=[row]))
    assert len(files(tmp_path)) == 3
    found: list[Row] = []
    while len(files(tmp_path)) > 2:
        found += spool.read(1).settled
        spool.done()
    assert found == rows[:3]
    assert found + read_all(spool) == rows


def test_torn_or_wrong_at_any_byte_one_line_is_set_aside_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = some(3)
    spool = Spool(tmp_path)
    spool.append(Rows(settled=rows))
    spool.close()
    (file,) = files(tmp_path)
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        for broken in (content[:place], content[:place] + b"\0" + content[place + 1 :]):
            file.write_bytes(broken)
            spool = Spool(tmp_path)
            found = read_all(spool)
            spool.close()
            assert [row for row in rows if row in found] == found
            assert len(found) >= broken.count(b"\n") - 1
            aside = files(tmp_path)
            assert bool(spool.damaged) == bool(aside)
            if spool.damaged:
                assert [path.name for path in aside] == ["damaged-00000001.jsonl"]
                assert spool_contents(tmp_path).damaged_files == ("damaged-00000001.jsonl",)
                aside[0].unlink()
    assert "were set aside in spool/damaged-00000001.jsonl" in caplog.text


def test_damaged_lines_are_kept_as_they_are_and_no_later_file_takes_their_name(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    for _ in range(2):
        (tmp_path / "spool" / "records-00000007.jsonl").write_bytes(b"not a line\nhalf of o")
        spool = Spool(tmp_path)
        assert read_all(spool) == []
        spool.append(Rows(settled=some(1)))
        names = [file.name for file in files(tmp_path)]
        assert names == ["damaged-00000007.jsonl", "records-00000008.jsonl"]
        assert (tmp_path / "spool" / names[0]).read_bytes() == b"not a line\nhalf of o\n"
        assert read_all(spool) == some(1)


def test_a_file_that_cannot_be_read_is_set_aside_whole(tmp_path: Path) -> None:
    unreadable = tmp_path / "spool" / "records-00000001.jsonl"
    unreadable.parent.mkdir()
    unreadable.touch()
    spool = Spool(tmp_path)
    unreadable.unlink()
    unreadable.mkdir()  # once it is open; a start would refuse a folder
    spool.append(Rows(settled=some(1)))
    assert read_all(spool) == some(1)
    assert [file.name for file in files(tmp_path)] == ["damaged-00000001.jsonl"]
    assert spool.damaged == 1


def test_what_is_planted_while_it_is_open_is_as_a_disk_that_does_not_take_part(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "spool").mkdir(0o700)
    (tmp_path / "spool" / "reserve").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="is a link"):
        spool.append(Rows(settled=some(1)))
    (tmp_path / "spool" / "reserve").unlink()
    spool.append(Rows(settled=some(1)))
    assert read_all(spool) == some(1)


def test_a_file_that_somebody_took_away_keeps_no_other_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(Rows(settled=some(1)))
    files(tmp_path)[0].unlink()
    assert read_all(spool) == []


def test_where_no_spool_can_be_it_says_so_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    spool = Spool(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match="File exists"):
            spool.append(Rows(settled=some(1)))
    assert not spool
    (tmp_path / "spool").unlink()
    spool.append(Rows(settled=some(1)))
    assert read_all(spool) == some(1)


def test_its_room_is_there_beforehand_and_again_afterwards(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.set_room_aside()
    (reserve,) = files(tmp_path)
    assert reserve.stat().st_blocks * 512 >= SEGMENT_BYTES
    rows = some(6)
    spool.append(Rows(settled=rows[:2]))
    (file,) = files(tmp_path)
    assert (file.name, file.stat().st_size) == ("records-00000001.jsonl", SEGMENT_BYTES)
    assert spool_contents(tmp_path).waiting_bytes < 10_000
    assert spool.read(1).settled == rows[:1]  # of the file that is written on
    spool.done()
    spool.append(Rows(settled=rows[2:]))
    assert files(tmp_path) == [file]
    assert read_all(spool) == rows[1:]
    assert files(tmp_path) == []
    spool.set_room_aside()
    assert files(tmp_path) == [reserve]
    spool.close()


def test_a_killed_process_leaves_zeros_behind_its_lines(tmp_path: Path) -> None:
    killed = Spool(tmp_path)
    killed.set_room_aside()
    rows = some(5)
    killed.append(Rows(settled=rows))
    with files(tmp_path)[0].open("r+b") as file:  # and half a line
        file.seek(len(file.read().rstrip(b"\0")))
        file.write(b'f26895d1 {"kind":"settled","requ')
    spool = Spool(tmp_path)
    assert read_all(spool, most=2) == rows
    assert spool.damaged == 1
    assert [path.name for path in files(tmp_path)] == ["damaged-00000001.jsonl"]
    assert files(tmp_path)[0].stat().st_size < 100
