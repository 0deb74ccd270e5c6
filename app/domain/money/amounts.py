"""Money is an integer count of nano-dollars, 1e-9 US dollar. Decimal text exists at the edges only.

Floats cannot add up a ledger: 0.1 + 0.2 dollars is not 0.3. A float, as from JSON, is read by its shortest decimal
text, which is what the sender wrote.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

NANOUSD_PER_USD = 1_000_000_000
MAX_USD = 1_000_000
"""A larger amount is a fault of its sender. Sums of nano-dollars must stay below 2^63."""

_NANO = Decimal("1e-9")
# The thread's own context may have a precision below 19 digits.
_ROUNDING = Context(prec=28, rounding=ROUND_HALF_EVEN)
_LONGEST_TEXT = 64
_AMOUNT = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


def format_usd(nanousd: int) -> str:
    """US dollars as plain decimal text: exact, without exponent or zeros at the end."""
    dollars, rest = divmod(abs(nanousd), NANOUSD_PER_USD)
    text = f"{dollars}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nanousd < 0 else text


def parse_usd(value: object) -> int | None:
    """Nano-dollars of an amount of US dollars given as number or text, rounded half to even.

    None if it is no amount: other types, booleans, negatives, NaN, infinities, more than `MAX_USD`.
    """
    amount = _decimal(value)
    if amount is None or not amount.is_finite() or amount < 0 or amount > MAX_USD:
        return None
    return int(amount.quantize(_NANO, context=_ROUNDING).scaleb(9, context=_ROUNDING))


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        return Decimal(value)
    if isinstance(value, str) and len(value) <= _LONGEST_TEXT and _AMOUNT.fullmatch(value):
        return Decimal(value)
    return None
