"""Lines of the spool: what was written comes back, and what was not is never taken for a row."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from app.domain.records import Record
from app.store.schema.rows import Row, Rows, row_of
from app.store.spool.spool_codec import decoded, encoded
from tests.store.samples import Samples

any_text = st.text(st.characters(exclude_categories=[]))  # lone surrogates and line feeds among them
milliseconds = st.none() | st.floats(allow_nan=False)
records = st.builds(
    Record,
    request_id=any_text,
    model_requested=st.none() | any_text,
    time_to_first_byte_ms=milliseconds,
    duration_ms=milliseconds,
)
many_rows = st.lists(records.map(row_of), max_size=3)


@given(many_rows, many_rows, many_rows)
def test_rows_come_back_as_they_were(still_open: list[Row], settled: list[Row], amended: list[Row]) -> None:
    rows = Rows(still_open, settled, amended)
    assert decoded(encoded(rows).splitlines(keepends=True)) == (rows, [])


def three_lines() -> tuple[list[Row], bytes]:
    samples = Samples()
    tricky = '"} \n 00000000 {"kind":"settled","request_id":"x"}'
    rows = [row_of(samples.settled(model_requested=tricky, client="zoë")) for _ in range(3)]
    return rows, encoded(Rows(settled=rows))


def test_one_wrong_byte_costs_one_line_and_changes_none() -> None:
    rows, content = three_lines()
    for place in range(len(content)):
        for wrong in (content[place] ^ 1, content[place] ^ 0x20, ord("\n"), ord("{")):
            if wrong == content[place]:
                continue
            found = decoded((content[:place] + bytes([wrong]) + content[place + 1 :]).splitlines(keepends=True))
            kept = list(found.rows.settled)
            assert len(kept) == 2, (place, wrong)
            assert [row for row in rows if row in kept] == kept
            assert found.damaged


def test_torn_anywhere_all_whole_lines_are_kept() -> None:
    rows, content = three_lines()
    for end in range(len(content)):
        found = decoded(content[:end].splitlines(keepends=True))
        whole = content[:end].count(b"\n")
        assert list(found.rows.settled) == rows[:whole]
        assert len(found.damaged) == (0 if content[:end].endswith(b"\n") or end == 0 else 1)


def test_lines_of_a_later_version_may_have_more_and_of_an_earlier_one_less() -> None:
    row = row_of(replace(Samples().settled(), error_type=None))
    (line,) = encoded(Rows(settled=[row])).splitlines(keepends=True)
    assert b"error_type" not in line
    assert decoded([line]).rows.settled == [row]


def test_what_is_no_row_is_damaged() -> None:
    for line in (b"\n", b"hello\n", b"00000000 {}\n", b"\xff" * 100, b""):
        assert decoded([line]).damaged == [line]
