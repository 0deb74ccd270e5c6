"""The guard over the upstream key: it finds the key however it is cut or escaped, and shows it nowhere."""

import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.records import Record
from app.gateway.exchange.key_guard import SHORTEST_SECRET, START_CHARACTERS, KeyGuard, KeyWatch

KEY = "sk-or-v1-abcabcabd"
LOOPING = "aabaabaabaabaabaac"  # the start of the key overlaps itself
SLASHED = "sk/or/v1/abcabcabd"


@st.composite
def cut(draw: st.DrawFn, text: bytes) -> list[bytes]:
    places = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=12)))
    return [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True) if start < stop]


def spellings(key: str) -> st.SearchStrategy[str]:
    """The key with any of its characters as JSON escapes."""
    return st.tuples(*map(spelling, key)).map("".join)


def spelling(character: str) -> st.SearchStrategy[str]:
    code = ord(character)
    forms = [character, f"\\u{code:04x}", f"\\u{code:04X}", *(["\\/"] if character == "/" else [])]
    return st.sampled_from(forms)


def screened(watch: KeyWatch, chunks: list[bytes]) -> tuple[bytes, bool]:
    """What passes of these chunks, and whether the key was seen."""
    passed = b""
    for chunk in chunks:
        passing = watch.screen(chunk)
        if passing is None:
            return passed, True
        passed += passing
    return passed + watch.release(), False


NEAR_KEY = st.text("sk-orv1abcd/\\u067", max_size=60)


@given(st.data(), st.sampled_from([KEY, LOOPING, SLASHED]), NEAR_KEY, NEAR_KEY)
def test_the_key_is_seen_however_it_is_cut_and_escaped(data: st.DataObject, key: str, before: str, after: str) -> None:
    text = (before.rstrip("\\") + data.draw(spellings(key)) + after).encode()
    passed, seen = screened(KeyGuard(key).watch(), data.draw(cut(text)))
    assert seen
    assert key not in unescaped(passed)
    start = unescaped(passed[len(before.rstrip("\\").encode()) :])
    assert len(start.partition("\\")[0]) < START_CHARACTERS  # the next character's escape may have begun


@given(st.data(), st.sampled_from([KEY, LOOPING, SLASHED]), NEAR_KEY, st.integers(0, 17), NEAR_KEY)
@example(data=None, key=KEY, before="", letters=17, after="")
def test_what_is_not_the_key_passes_whole(
    data: st.DataObject | None, key: str, before: str, letters: int, after: str
) -> None:
    text = (before + key[:letters] + after).encode()
    if not text or key in unescaped(text):
        return
    passed, seen = screened(KeyGuard(key).watch(), [text] if data is None else data.draw(cut(text)))
    assert not seen
    assert passed == text


def test_slashes_alone_may_be_escaped() -> None:
    for cut_at in range(1, 22):
        text = b"key: " + SLASHED.replace("/", "\\/").encode()
        assert screened(KeyGuard(SLASHED).watch(), [text[:cut_at], text[cut_at:]])[1]


@pytest.mark.parametrize("at", range(1, len(KEY)))
def test_at_most_seven_leading_characters_pass(at: int) -> None:
    watch = KeyGuard(KEY).watch()
    first = watch.screen(b"data: " + KEY[:at].encode())
    assert first == b"data: " + (KEY[:at].encode() if at < START_CHARACTERS else b"")
    assert watch.screen(KEY[at:].encode()) is None


def unescaped(text: bytes | str) -> str:
    decoded = text.decode() if isinstance(text, bytes) else text
    for character in set(KEY + LOOPING + SLASHED):
        code = f"\\u{ord(character):04x}"
        for form in (code, "\\u" + code[2:].upper()):
            decoded = decoded.replace(form, character)
    return decoded.replace("\\/", "/")


ESCAPES: dict[str, Callable[[str], str]] = {
    "as it is": lambda key: key,
    "all in JSON escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "one in a JSON escape": lambda key: key[:5] + f"\\u{ord(key[5]):04X}" + key[6:],
    "JSON in JSON": lambda key: json.dumps("".join(f"\\u{ord(c):04x}" for c in key)),
    "percent-encoded": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "percent-encoded twice": lambda key: quote("".join(f"%{ord(c):02x}" for c in key)),
    "hexadecimal entities": lambda key: "".join(f"&#x{ord(c):x};" for c in key),
    "decimal entities": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "UTF-16": lambda key: key.encode("utf-16-le").decode(),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_short_text_is_judged_with_its_escapes_undone(name: str) -> None:
    text = ESCAPES[name](KEY)
    assert KeyGuard(KEY).found_in(b'{"error":"wrong key ' + text.encode() + b'"}')
    assert not KeyGuard(KEY).found_in(b'{"error":"wrong key ' + ESCAPES[name](KEY[:-1]).encode() + b'"}')
    if "entities" in name:
        assert html.unescape(text) == KEY


@pytest.mark.parametrize("name", ["as it is", "all in JSON escapes", "percent-encoded", "JSON in JSON"])
def test_headers_are_judged_quickly(name: str) -> None:
    guard = KeyGuard(KEY)
    assert guard.found_in_headers(b"application/json\n" + ESCAPES[name](KEY).encode())
    assert not guard.found_in_headers(b"application/json\n" + ESCAPES[name](KEY[:-1]).encode())
    assert not KeyGuard("ollama").found_in_headers(ESCAPES[name]("ollama").encode())


@pytest.mark.parametrize("unit", [b"\\", b"%", b"&#", b"&#115;", b"%73", b"\\u0073", b"\\\\u0073", b"sk-or-v1", b"\0"])
def test_a_megabyte_of_escapes_is_judged_in_milliseconds(unit: bytes) -> None:
    text = (unit * (1024 * 1024 // len(unit)))[: 1024 * 1024]
    guard = KeyGuard(KEY)
    began = time.thread_time()
    assert not guard.found_in(text)
    assert time.thread_time() - began < 0.1  # 1-15 ms, measured


@pytest.mark.parametrize("key", ["", "ollama", "x" * (SHORTEST_SECRET - 1)])
def test_a_placeholder_is_no_secret(key: str) -> None:
    guard = KeyGuard(key)
    assert not guard.found_in(b"ask ollama " + key.encode())
    assert guard.watch().screen(b"ask ollama " + key.encode()) == b"ask ollama " + key.encode()


def test_nothing_shows_the_key() -> None:
    guard = KeyGuard(KEY)
    assert KEY not in f"{guard!r} {guard} {guard.watch()!r}"
    assert guard.found_in(b"x" + KEY.encode())


def test_no_record_keeps_the_key() -> None:
    record = Record("req_1", 0, "c", "k", "u", "/responses", model_served=f"x{KEY}", response_id="resp_1")
    record.error_detail = f"wrong key {KEY[:16]}..."
    KeyGuard(KEY).keep_out(record)
    assert [record.model_served, record.response_id, record.error_detail] == [None, "resp_1", None]
