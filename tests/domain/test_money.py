"""Money: exact text, exact parsing, and nothing that is not an amount."""

import json
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.money.amounts import MAX_USD, NANOUSD_PER_USD, format_usd, parse_usd

amounts = st.integers(0, MAX_USD * NANOUSD_PER_USD)


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (1_234_560, "0.00123456"),
        (10**9, "1"),
        (100 * 10**9, "100"),
        (1_500_000_000, "1.5"),
        (10**18, "1000000000"),
        (-1_500_000_000, "-1.5"),
    ],
)
def test_text(nanousd: int, text: str) -> None:
    assert format_usd(nanousd) == text


@given(amounts)
@example(10)
def test_text_parses_back(nanousd: int) -> None:
    text = format_usd(nanousd)
    assert parse_usd(text) == parse_usd(Decimal(text)) == nanousd
    assert not set(text) - set("0123456789.")


@given(st.integers(0, 10**15))
def test_json_numbers_parse_back(nanousd: int) -> None:
    """Fifteen digits are what a float carries."""
    assert parse_usd(json.loads(format_usd(nanousd))) == nanousd


@pytest.mark.parametrize(
    ("value", "nanousd"),
    [
        (0.00123456, 1_234_560),
        (0.1, 100_000_000),
        (1e-9, 1),
        (1e-7, 100),
        (-0.0, 0),
        (3, 3 * 10**9),
        ("0.0004", 400_000),
        (".5", 500_000_000),
        ("2.", 2 * 10**9),
        ("1.5E-3", 1_500_000),
        ("0.0000000005", 0),  # half, to even
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("0.00000000050000000000000000000000000000000000001", 1),  # rounded once
        ("1e-9999", 0),
        (10**6, 10**15),
    ],
)
def test_amounts(value: object, nanousd: int) -> None:
    assert parse_usd(value) == nanousd


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        -1,
        -0.01,
        "-1",
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        10**6 + 1,
        10**400,
        1e300,
        "1e9999",
        "1000000.000000001",
        "",
        ".",
        " 1",
        "1\n",
        "1_000",
        "1,5",
        "$1",
        "NaN",
        "Infinity",
        "٣",
        "1e99999999999999999999",
        "0." + "0" * 70,
        [],
        {},
        b"1",
        1j,
    ],
)
def test_not_amounts(value: object) -> None:
    assert parse_usd(value) is None


@given(st.decimals(min_value=0, max_value=MAX_USD, places=12) | st.floats(0, MAX_USD).map(repr).map(Decimal))
def test_rounding_is_half_even_and_once(amount: Decimal) -> None:
    with localcontext(prec=60):
        expected = int((amount * NANOUSD_PER_USD).to_integral_value(ROUND_HALF_EVEN))
    assert parse_usd(amount) == expected


def test_the_threads_decimal_context_does_not_matter() -> None:
    with localcontext(prec=3):
        assert parse_usd("123456.789012345") == 123_456_789_012_345


@given(st.text(max_size=70) | st.floats() | st.integers() | st.decimals(allow_nan=True))
def test_never_raises(value: object) -> None:
    nanousd = parse_usd(value)
    assert nanousd is None or 0 <= nanousd <= MAX_USD * NANOUSD_PER_USD
