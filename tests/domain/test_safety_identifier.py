"""The safety identifier enters a body, and nothing else changes."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain.identity.safety_identifier import safety_identifier, with_safety_identifier

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text(max_size=12) | st.just("safety_identifier"), VALUES, max_size=5)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n ", "\t:  ")])


@given(BODIES, SEPARATORS, st.booleans(), st.sampled_from(["", "  ", "\n\t"]))
def test_the_object_is_the_same_but_for_the_field(
    call: dict[str, Any], separators: tuple[str, str], ascii_only: bool, space: str
) -> None:
    body = (space + json.dumps(call, separators=separators, ensure_ascii=ascii_only) + space).encode()
    has_one = "safety_identifier" in call
    marked = with_safety_identifier(body, "abc", has_one=has_one)
    keys: list[str] = []

    def outermost(found: list[tuple[str, Any]]) -> dict[str, Any]:
        keys[:] = [key for key, _ in found]
        return dict(found)

    assert json.loads(marked, object_pairs_hook=outermost) == {**call, "safety_identifier": "abc"}
    assert keys.count("safety_identifier") == 1


def test_all_other_bytes_stay() -> None:
    body = b' {\n "model" : "m\\u00e9",\t"x":1.50 }'
    assert with_safety_identifier(body, "ab", has_one=False) == b' {"safety_identifier":"ab",' + body[2:]
    body = b'{"model":"safety_identifier","safety\\u005fidentifier" : {"a":[1,"}"]} ,"x":1.50}'
    marked = with_safety_identifier(body, "ab", has_one=True)
    assert marked == b'{"model":"safety_identifier","safety\\u005fidentifier" : "ab" ,"x":1.50}'


def test_it_is_stable_apart_and_says_no_name() -> None:
    assert safety_identifier("alice") == safety_identifier("alice")
    assert safety_identifier("alice") != safety_identifier("bob")
    assert "alice" not in safety_identifier("alice")
    assert len(safety_identifier("alice")) == 32
