"""A secret shows itself to nobody but those who call reveal()."""

import copy
import json
import pickle
from collections.abc import Callable

import pytest

from app.settings.secret import Secret, SecretUrl

TEXT = "sk-or-v1-0123456789"


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{!r}".format, "{:>40}".format, "%s".__mod__, "%r".__mod__, ascii, lambda s: repr([s])],
)
def test_no_way_of_printing_shows_the_text(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(TEXT))
    assert "***" in shown
    assert TEXT not in shown


@pytest.mark.parametrize(
    "take", [pickle.dumps, json.dumps, vars, hash, lambda s: s.__getstate__(), lambda s: json.dumps({"key": s})]
)
def test_what_would_need_the_text_is_refused(take: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as caught:
        take(Secret(TEXT))
    assert TEXT not in str(caught.value)


def test_a_copy_is_the_secret_itself() -> None:
    secret = Secret(TEXT)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"key": secret})["key"] is secret


def test_reveal_is_the_one_reader() -> None:
    assert Secret(TEXT).reveal() == TEXT


def test_secrets_compare_by_text_and_only_with_secrets() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret(TEXT + "x")
    assert Secret("schlüssel") != Secret("schlussel")
    assert Secret(TEXT) != TEXT


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://weighbridge:pass@db.example.com:5432/w", "postgresql://weighbridge:***@db.example.com:5432/w"),
        ("postgresql://weighbridge@db.example.com/w?password=pass", "postgresql://weighbridge@db.example.com/w?***"),
        ("redis://:p@ss@cache:6379/0", "redis://:***@cache:6379/0"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
    ],
)
def test_a_secret_url_is_shown_without_what_may_be_a_password(url: str, shown: str) -> None:
    assert str(SecretUrl(url)) == shown
    assert repr(SecretUrl(url)) == f"SecretUrl({shown})"
    assert SecretUrl(url).reveal() == url
