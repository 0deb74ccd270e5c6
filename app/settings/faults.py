"""Faults of the settings. All are reported at once, each with its place."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from pydantic import ValidationError

_SHOULD = re.compile(r"^\w+ should ")
_FOLLOWS_FROM_ANOTHER = "default_factory_not_called"  # a default computed from a faulty setting


class SettingsFault(NamedTuple):
    """One fault. `where` is an origin ("env WEIGHBRIDGE_PORT") or a setting. Neither part holds a secret."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class SettingsError(Exception):
    """The settings have faults. The text has one line for each."""

    def __init__(self, faults: Iterable[SettingsFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


def explain(error: ValidationError, origins: Mapping[str, str]) -> Iterator[SettingsFault]:
    """Pydantic's findings in our own words, each with the origin of its value. Values are never repeated."""
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        if found["type"] == _FOLLOWS_FROM_ANOTHER:
            continue
        what = _SHOULD.sub("must ", found["msg"].removeprefix("Value error, ")).replace("a valid tuple", "a list")
        yield SettingsFault(_place(tuple(map(str, found["loc"])), origins), what)


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A suggestion to add to a message about an unknown name; empty if no known name is similar without `prefix`."""
    whole = {one.removeprefix(prefix): one for one in known}
    like = get_close_matches(name.removeprefix(prefix), whole, n=1)
    return f"; did you mean {whole[like[0]]}?" if like else ""


def _place(location: tuple[str, ...], origins: Mapping[str, str]) -> str:
    for length in range(len(location), 0, -1):
        path = ".".join(location[:length])
        if path in origins:
            return origins[path]
    return ".".join(location)
