import io
import os
import threading

import pytest

from app.telemetry.sink import LogSink


def test_lines_come_out_whole_and_in_order() -> None:
    stream = io.StringIO()
    sink = LogSink(stream)

    def write(name: str) -> None:
        for number in range(500):
            sink.write(f"{name} {number}\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sink.flush(10)
    written = stream.getvalue().splitlines()
    for name in "abc":
        assert [line for line in written if line.startswith(name)] == [f"{name} {number}" for number in range(500)]
    sink.close()


def test_a_pipe_that_nobody_reads_blocks_no_writer_and_loses_only_what_does_not_fit() -> None:
    reading, writing = os.pipe()
    line = "x" * 99 + "\n"
    with os.fdopen(reading) as reader:
        with os.fdopen(writing, "w") as stream:
            sink = LogSink(stream, most_pending=200_000)
            sink.announce_losses(lambda lost: f"lost {lost}\n")
            for _ in range(10_000):  # 1 MB into a pipe of 64 KB: this returns, or the test times out
                sink.write(line)
            lost = sink.dropped
            assert not sink.flush(0)
            assert (10_000 - lost) * len(line) <= 200_000 + 65_536 + len(line)
            read: list[str] = []
            collector = threading.Thread(target=lambda: read.extend(reader))
            collector.start()
            assert sink.flush(10)
            sink.write("end\n")
            sink.close()
        collector.join()
    assert sink.dropped == lost
    assert read.count(line) == 10_000 - lost
    told = [int(each.removeprefix("lost ")) for each in read if each.startswith("lost ")]
    assert sum(told) == lost
    assert len(read) == read.count(line) + len(told) + 1


def test_a_reader_that_has_gone_harms_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    sink = LogSink(stream)
    sink.write("into the void\n")
    assert sink.flush(10)
    assert sink.dropped == 1
    sink.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_closing_writes_what_is_queued_and_a_later_write_begins_anew() -> None:
    stream = io.StringIO()
    sink = LogSink(stream)
    sink.write("one\n")
    sink.close()
    assert stream.getvalue() == "one\n"
    sink.write("two\n")
    sink.close()
    assert stream.getvalue() == "one\ntwo\n"
    assert sink.flush(0)
