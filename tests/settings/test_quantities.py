"""Sizes, durations and counts as people write them."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings.quantities import format_size, parse_count, parse_duration, parse_size


@given(st.integers(min_value=0, max_value=10**15))
def test_what_format_size_writes_parse_size_reads(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text(max_size=12) | st.binary(max_size=3) | st.floats() | st.booleans() | st.none())
@pytest.mark.parametrize("parse", [parse_size, parse_duration, parse_count])
def test_a_parser_gives_a_finite_number_or_a_value_error(parse: Callable[[object], float], value: object) -> None:
    with pytest.raises(ValueError, match="must be") as fixed:
        parse("no such quantity")
    try:
        number = parse(value)
    except ValueError as error:
        assert str(error) == str(fixed.value)  # noqa: PT017  # it never repeats the input; both ways are fine
    else:
        assert math.isfinite(number)
        assert not isinstance(value, bool)


@pytest.mark.parametrize(
    ("text", "size"),
    [("32MiB", 33_554_432), ("32 mib", 33_554_432), ("1KB", 1000), ("1GiB", 2**30), ("17", 17), (17, 17), ("17B", 17)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["32M", "1.5MiB", "-1", "", "MiB", "1 KiB MiB", True, 1.5, None, ["1"]])
def test_what_is_not_a_size(text: object) -> None:
    with pytest.raises(ValueError, match="number of bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("500ms", 0.5), ("10m", 600.0), ("1h", 3600.0), ("2.5", 2.5), (30, 30.0), (0.25, 0.25)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["90 seconds", "1d", "-1s", "", "inf", "nan", math.inf, math.nan, True, None, "1h30m"])
def test_what_is_not_a_duration(text: object) -> None:
    with pytest.raises(ValueError, match="number of seconds"):
        parse_duration(text)


@pytest.mark.parametrize("value", [True, 1.0, "1.0", "one", "", None, "१"])
def test_what_is_not_a_count(value: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_count(value)
