from random import Random

from hypothesis import given
from hypothesis import strategies as st

from app.mock.schemas import example
from app.mock.texts import reply, talk, tokenise


@given(st.text())
def test_tokens_are_the_text(text: str) -> None:
    tokens = tokenise(text)
    assert "".join(tokens) == text
    assert all(0 < len(token) <= 6 for token in tokens)


@given(st.integers(0, 400), st.integers())
def test_talk_is_as_long_as_wanted(tokens: int, seed: int) -> None:
    assert len(talk(tokens, Random(seed))) == tokens


def test_texts_cross_bytes_of_all_lengths() -> None:
    said = "".join(talk(2_000, Random(1)))
    assert {len(character.encode()) for character in said} == {1, 2, 3, 4}


@given(st.integers(1, 60), st.integers())
def test_words_are_counted(words: int, seed: int) -> None:
    assert len(reply(f"Say hello in exactly {words} words.", Random(seed)).split()) == words


def test_counting() -> None:
    assert reply("Count from 1 to 5.", Random(0)) == "1, 2, 3, 4, 5"
    assert reply("count from 3 to 1", Random(0)) == "3, 2, 1"


def test_examples_fit_their_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "location": {"type": "string"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": ["integer", "null"], "minimum": 2},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
            "exact": {"type": "boolean"},
        },
        "$defs": {"tag": {"anyOf": [{"const": "sunny"}, {"const": "wet"}]}},
    }
    assert example(schema, "What's the weather in San Francisco?") == {
        "location": "San Francisco",
        "unit": "celsius",
        "days": 2,
        "tags": ["sunny"],
        "exact": True,
    }


def test_a_schema_that_holds_itself_ends() -> None:
    assert example({"type": "object", "properties": {"again": {"$ref": "#"}}}, "")
