import json
import string
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.domain.masking import MASK
from app.telemetry.redaction import Redactor, escape

KEYS = st.text(string.ascii_letters + string.digits + "_-", min_size=8, max_size=60)
PRINTABLE = st.text(string.printable.strip().replace("*", ""), min_size=8, max_size=40)
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"


@given(before=st.text(), secret=PRINTABLE, after=st.text())
def test_a_known_secret_never_stays(before: str, secret: str, after: str) -> None:
    assert secret not in Redactor([secret])(before + secret + after)


@given(secret=PRINTABLE, token=KEYS)
def test_a_pattern_does_not_leave_half_of_a_known_secret(secret: str, token: str) -> None:
    assert secret[4:] not in Redactor([secret])(f"sk-{token}{secret}")


@pytest.mark.parametrize("form", [lambda key: quote(key, safe=""), lambda key: json.dumps(key)[1:-1], repr])
def test_a_known_secret_does_not_hide_behind_escapes(form: "object") -> None:
    secret = "pa\"ss/wo'rd\\&=+key"
    assert callable(form)
    written = str(form(secret))
    assert secret[-9:] not in Redactor([secret])(f"x {written} y")
    assert MASK in Redactor([secret])(f"x {written} y")


@given(before=st.text(), key=KEYS, after=st.sampled_from(["", " ", '"', "'", "\n", ")", "."]))
def test_whatever_looks_like_a_key_goes(before: str, key: str, after: str) -> None:
    assert key not in Redactor()(f"{before}sk-{key}{after}").removeprefix(before)


@pytest.mark.parametrize(
    "text",
    ["Bearer abc123", "bearer\tabc123", "{'authorization': 'Bearer abc123'}", "BEARER%20abc123", JWT, f"b'\\n{JWT}'"],
)
def test_tokens_go(text: str) -> None:
    redacted = Redactor()(text)
    assert "abc123" not in redacted
    assert JWT[-12:] not in redacted
    assert MASK in redacted


@pytest.mark.parametrize(
    "text", ["desk-job", "an ordinary line", "sk-short", "eyJ is how they begin", "openai/gpt-5.5"]
)
def test_the_rest_stays(text: str) -> None:
    assert Redactor(["upstream-key"])(text) == text


def test_what_is_too_short_for_a_secret_stays() -> None:
    assert Redactor(["a"])("a banana") == "a banana"


def test_a_secret_learnt_later_goes() -> None:
    redact = Redactor()
    assert redact("the admin-key-1") == "the admin-key-1"
    redact.learn("admin-key-1")
    assert redact("the admin-key-1") == f"the {MASK}"


@given(text=st.text(), secret=PRINTABLE)
def test_no_suspicion_means_no_change(text: str, secret: str) -> None:
    redact = Redactor([secret])
    assume(not redact.suspects(text))
    assert redact(text) == text


@given(text=st.text())
def test_escaped_text_is_one_printable_line(text: str) -> None:
    assert escape(text).isprintable()
    assert len(escape(text).splitlines()) <= 1


@given(text=st.text())
def test_escaping_leaves_printable_text_alone(text: str) -> None:
    assume(text.isprintable())
    assert escape(text) == text


def test_newlines_are_kept_where_asked() -> None:
    assert escape("one\ntwo\r\x1b[31m\u2028\ud800", keep_newlines=True) == "one\ntwo\\r\\x1b[31m\\u2028\\ud800"
