"""The guard over the upstream key: it finds the key however it is cut, and shows it nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway.key_guard import SHORTEST_SECRET, KeyGuard

KEY = "sk-or-v1-abcabcabd"


@st.composite
def cut(draw: st.DrawFn, text: bytes) -> list[bytes]:
    places = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=12)))
    return [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True) if start < stop]


@given(st.data(), st.text("sk-orv1abcd", max_size=60), st.text("sk-orv1abcd", max_size=60), st.booleans())
def test_the_chunk_that_ends_the_key_is_seen_however_it_is_cut(
    data: st.DataObject, before: str, after: str, holds: bool
) -> None:
    text = (before + (KEY if holds else "") + after).encode()
    chunks = data.draw(cut(text))
    watch = KeyGuard(KEY).watch()
    passed = b""
    for chunk in chunks:
        seen = watch.sees_key(chunk)
        assert seen == (KEY.encode() in passed + chunk)
        if seen:
            break
        passed += chunk
    else:
        assert KEY.encode() not in text


@pytest.mark.parametrize("key", ["", "ollama", "x" * (SHORTEST_SECRET - 1)])
def test_a_placeholder_is_no_secret(key: str) -> None:
    guard = KeyGuard(key)
    assert not guard.found_in(b"ask ollama " + key.encode())
    assert not guard.watch().sees_key(b"ask ollama " + key.encode())


def test_nothing_shows_the_key() -> None:
    guard = KeyGuard(KEY)
    assert KEY not in f"{guard!r} {guard} {guard.watch()!r}"
    assert guard.found_in(b"x" + KEY.encode())
