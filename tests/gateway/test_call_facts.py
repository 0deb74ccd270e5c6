"""read_body: which bodies go upstream, what is known of them, and that odd ones are refused and never trip us."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidRequest
from app.gateway.admission import call_facts as module
from app.gateway.admission.call_facts import CallFacts, read_body

ANY = st.text() | st.text(st.sampled_from('ab"\\\ud83d\udc4b\ud800'), max_size=5)  # lone surrogates, too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY, inner, max_size=4),
    max_leaves=20,
)
CALLS = st.fixed_dictionaries(
    {},
    optional={"model": st.none() | st.text(max_size=256), "stream": st.none() | st.booleans(), "input": JSON},
)


def facts_of(call: dict[str, Any]) -> CallFacts:
    return CallFacts(call.get("model"), call.get("stream") is True)


@given(CALLS, st.sampled_from([None, 1]), st.booleans(), st.sampled_from([None, (",", ":"), (" ,  ", ":\n")]))
def test_the_facts_are_those_of_the_json(
    call: dict[str, Any], indent: int | None, ascii_only: bool, separators: tuple[str, str] | None
) -> None:
    text = json.dumps(call, indent=indent, ensure_ascii=ascii_only, separators=separators)
    body = text.encode("utf-8", "surrogatepass")
    if readable(body):
        assert read_body(body) == facts_of(call)
    else:
        with pytest.raises(InvalidRequest):
            read_body(body)


def readable(body: bytes) -> bool:
    """By the standard: UTF-8, and no NaN or Infinity, both of which Python would write."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(body.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_only_invalid_request_goes(body: bytes) -> None:
    try:
        facts = read_body(body)
    except InvalidRequest as error:
        error.message.encode()
        (error.param or "").encode()
    else:
        assert facts == facts_of(json.loads(body))


@given(st.dictionaries(ANY, ANY, min_size=1, max_size=5), st.data())
def test_a_repeated_top_level_key_is_refused_however_it_is_spelt(members: dict[str, str], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(members)))
    pairs = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in members.items()]
    plain = json.dumps(key, ensure_ascii=not key.isprintable())
    escaped = "".join(f"\\u{unit:04x}" for unit in utf16(key))
    spelling = data.draw(st.sampled_from([json.dumps(key), plain, f'"{escaped}"']))
    pairs.insert(data.draw(st.integers(0, len(pairs))), f"{spelling} : 1")
    with pytest.raises(InvalidRequest, match="twice"):
        read_body(f"{{{','.join(pairs)}}}".encode())


def utf16(text: str) -> list[int]:
    data = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


@pytest.mark.parametrize(
    "body",
    [
        rb'{"model":"a","model":"b"}',
        rb'{"model":"a","model":"a"}',
        rb'{"model":"a","mod\u0065l":"b"}',
        rb'{"model":"a","\u006dodel":"b","x":"\u0022\u0022"}',
        rb'{"model":"a" , "x":[1,{"y":2}], "model":"b"}',
        rb'{"a\"":1,"a\u0022":2}',
        rb'{"":1,"":2}',
        rb'{"model":1,"model":"m","x":"\u0022\u0022"}',
        rb'{"model":"a","model":"m","x":"\u0022\u0022\u0022\u0022"}',
        '{"é":1,"\\u00e9":2}'.encode(),
        rb'{"\ud800":1,"\uD800":2}',
        rb'{"model":"' + b"m" * 10 + b'","x":' + b"[" * 400 + b"]" * 400 + b',"model":1}',
    ],
)
def test_two_equal_keys(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="twice") as refused:
        read_body(body)
    assert (refused.value.param is None) == (b"ud800" in body), "a name that no answer could hold is left out"


@pytest.mark.parametrize(
    "body",
    [
        b'{"input":[{"a":1,"a":2}]}',
        b'{"tools":{"model":1,"model":2},"model":"m"}',
        rb'{"input":"\"model\":1,\"model\":2"}',
        b'{"model":{"x":1,"x":1},"stream":true}',
        b'{"x":{"model":1},"model":"m"}',
    ],
)
def test_repeats_deeper_down_are_upstreams_business(body: bytes) -> None:
    if b'"model":{' in body:
        with pytest.raises(InvalidRequest, match="must be a string"):
            read_body(body)
    else:
        read_body(body)


ODD = [
    b"",
    b" ",
    b"nothing",
    b"[]",
    b"null",
    b'"text"',
    b"5",
    b"{} {}",
    b'{"a":1,}',
    b"{'a':1}",
    b'{"a":NaN}',
    b'{"a":-Infinity}',
    b'{"a":' + b"9" * 5000 + b"}",
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\n"}',
    b'\xef\xbb\xbf{"a":1}',
    '{"a":1}'.encode("utf-16"),
    '{"a":1}'.encode("utf-16-le"),
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b"[" * 3_000_000,
    b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
]


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_body(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"9" * 300 + b',"model":"m"}',
        b'{"a":1e400,"model":"m"}',
        rb'{"a":"cut \ud83d","model":"m"}',
        rb'{"a":"\udc00\ud800","model":"m","b":99999999999999999999999}',
        b'{"a":' + b"[" * 300 + b"]" * 300 + b',"model":"m"}',
    ],
)
def test_what_is_merely_odd_goes_upstream(body: bytes) -> None:
    """A lone surrogate is what a text cut in mid-emoji holds: real clients send it, and it is JSON."""
    assert read_body(body) == CallFacts("m", stream=False)


@pytest.mark.parametrize("model", [b"1", b"[]", b"{}", b"true", rb'"\ud800"', rb'"gpt\udfff-5"'])
def test_a_model_is_text_that_can_be_written_down(model: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(b'{"model":' + model + b"}")
    assert refused.value.param == "model"


@pytest.mark.parametrize("stream", [b"1", b"0", b'"true"', b"[]", b"{}"])
def test_stream_is_true_or_false(stream: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(b'{"stream":' + stream + b"}")
    assert refused.value.param == "stream"


@pytest.mark.parametrize("body", [b"{}", b'{"model":null,"stream":null}'])
def test_neither_model_nor_stream_need_be_there(body: bytes) -> None:
    assert read_body(body) == CallFacts(None, stream=False)


USUAL: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "temperature": 0.1,
    "input": [{"role": "user", "content": 'say "hi" to <b>Zoë</b> & 👋\n\\o/'}],
}


def go_text(text: str) -> str:
    """As Go's encoder writes it."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(USUAL, separators=(",", ":"), ensure_ascii=False),
        json.dumps(USUAL, separators=(",", ":")),
        json.dumps(USUAL),
        json.dumps(USUAL, indent=2, ensure_ascii=False),
        go_text(json.dumps(USUAL, ensure_ascii=False)),
        json.dumps(USUAL).replace("/", "\\/"),
    ],
    ids=["compact", "compact-ascii", "python", "pretty", "go", "php"],
)
def test_what_usual_clients_write_is_read_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closely: list[bytes] = []
    monkeypatch.setattr(module, "_read_closely", closely.append)
    assert read_body(text.encode()) == CallFacts("m", stream=True)
    assert closely == []
