"""Laws of bodies, through the whole program: what is one JSON object passes byte for byte, whatever its spelling."""

import gzip
import json
import random
import zlib
from typing import Any

import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.program import Gateway
from tests.edges.fault_server import GOOD_BODY, FaultServer
from tests.edges.raw_client import request, say

RULES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXTS
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
UNTOUCHED = (
    "model",
    "stream",
    "background",
    "previous_response_id",
    "conversation",
    "prompt",
    "input",
    "tools",
    "include",
)
OBJECTS = st.dictionaries(TEXTS.filter(lambda key: key not in UNTOUCHED), VALUES, max_size=6)


def spelled(value: Any, rng: random.Random) -> bytes:  # noqa: ANN401 - any JSON
    """As one of many clients would write it."""
    separators = rng.choice([(",", ":"), (", ", ": "), (" ,\n", "\t:  ")])
    text = json.dumps(value, separators=separators, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
    return (rng.choice(["", " ", "\n"]) + text + rng.choice(["", "\r\n", " "])).encode()


def coded(body: bytes, coding: str) -> bytes:
    match coding:
        case "gzip":
            return gzip.compress(body)
        case "deflate":
            return zlib.compress(body)
        case "zstd":
            return zstandard.compress(body)
    return body


@RULES
@given(
    OBJECTS, st.booleans(), st.randoms(use_true_random=False), st.sampled_from(["identity", "gzip", "deflate", "zstd"])
)
def test_an_object_passes_byte_for_byte(
    edge: Gateway, fault_server: FaultServer, extra: dict[str, Any], stream: bool, rng: random.Random, coding: str
) -> None:
    members = [*extra.items(), ("model", "m"), ("stream", stream)]
    rng.shuffle(members)
    body = spelled(dict(members), rng)
    fault_server.forget()
    heard = say(edge.url, request(edge.key, coded(body, coding), headers={"Content-Encoding": coding}))
    assert (heard.only.status, heard.only.body) == (200, GOOD_BODY)
    assert fault_server.bodies == [body]


@RULES
@given(VALUES.filter(lambda value: not isinstance(value, dict)), st.randoms(use_true_random=False))
def test_what_is_no_object_is_refused(edge: Gateway, fault_server: FaultServer, value: Any, rng: random.Random) -> None:  # noqa: ANN401  # noqa: ANN401
    fault_server.forget()
    heard = say(edge.url, request(edge.key, spelled(value, rng)))
    assert (heard.only.status, heard.only.error_type) == (400, "invalid_request")
    assert fault_server.heads == []


@RULES
@given(OBJECTS, st.sampled_from(["model", "stream", "input", "x"]), st.randoms(use_true_random=False))
def test_a_key_that_comes_twice_is_refused(
    edge: Gateway, fault_server: FaultServer, extra: dict[str, Any], name: str, rng: random.Random
) -> None:
    """Upstream might take the other one."""
    again = rng.choice([name, "".join(f"\\u{ord(letter):04x}" for letter in name)])
    members = [(json.dumps(key), value) for key, value in extra.items() if key != name]
    members += [(f'"{name}"', "m" if name != "stream" else True), (f'"{again}"', "n" if name != "stream" else False)]
    rng.shuffle(members)
    body = ("{" + ",".join(f"{key}:{json.dumps(value)}" for key, value in members) + "}").encode()
    fault_server.forget()
    heard = say(edge.url, request(edge.key, body))
    assert (heard.only.status, heard.only.error_type) == (400, "invalid_request")
    assert fault_server.heads == []
