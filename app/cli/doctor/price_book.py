"""Checks how old the price book is."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path

from app.cli.doctor.finding import Finding, ok, warn

OLD_DAYS = 90
_DATE = re.compile(r"20\d\d-[01]\d-[0-3]\d")


def check_price_book(today: date) -> Iterator[Finding]:
    """The age of the prices. Models and prices change every week, so an old book lacks models or has old prices."""
    newest = newest_date(today)
    name = f"genai-prices {version('genai-prices')}"
    if newest is None:
        yield warn("price book", f"{name} does not tell its age", "pip install --upgrade genai-prices")
        return
    detail = f"{name}, of about {newest}"
    if (today - newest).days > OLD_DAYS:
        yield warn("price book", f"{detail}: {(today - newest).days} days old", "pip install --upgrade genai-prices")
    else:
        yield ok("price book", detail)


def newest_date(today: date) -> date | None:
    """The newest day that the data names (prices since, prices as of), except days after its installation."""
    from genai_prices import data

    installed = datetime.fromtimestamp(Path(data.__file__).stat().st_mtime).date()  # noqa: DTZ006 - a day, about
    found = {named for text in set(_DATE.findall(repr(data.providers))) if (named := _day(text)) is not None}
    return max((named for named in found if named <= min(today, installed)), default=None)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
