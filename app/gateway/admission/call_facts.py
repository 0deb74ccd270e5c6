"""Reads the facts that admission needs from a request body. The bytes that go upstream stay as they came.

    reads_quickly ── yes ──> read_body        parsed whole, at once: a few milliseconds at most
                  └─ no ───> read_in_steps    scanned in steps (app.domain.request.json_scan)

Parsing the worst 32 MiB whole would stop all other calls for seconds and take gigabytes.
"""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.domain.errors import InvalidRequest
from app.domain.request.json_scan import MAX_KEYS, JsonFault, JsonScan
from app.domain.request.judged_names import TOP_NAMES, USUAL_NAMES, RepeatedKeys, lookalike, lookalike_message
from app.domain.request.models_asked import MAX_NAME_LENGTH, check_models
from app.gateway.admission.slices import run_in_slices

SMALL_BYTES = 64 * 1024
"""Reading and judging so few bytes takes less than 10 ms, whatever they are."""

QUICK_BYTES = 1024 * 1024
QUICK_MARKS = 20_000
"""Commas and opening brackets, also those within strings: at least about as many as there are values."""

# Primes, so that no regular body is in step with them.
_STRIDES = (197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263, 269, 271, 277, 281)

_LISTED = frozenset({"input", "models", "plugins", "tools"})
"""Fields of which read_in_steps() keeps an outline."""

_ESCAPED_QUOTE = b"\\u0022"
_MAX_DIGITS = 4300
_EXACT_DIGITS = 18
_NO_SPANS: Mapping[str, tuple[int, int]] = {}


@dataclass(slots=True, frozen=True)
class CallFacts:
    """The facts that decide how a call is treated.

    `fields` are for admission: the parsed body or, after read_in_steps(), the judged parts of it, which give the same
    results. Then `spans` has the position of each in the body.
    """

    model: str | None
    stream: bool
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)


def read_body(body: bytes) -> CallFacts:
    """Read a body: one JSON object in UTF-8 with unique top-level keys. Raises InvalidRequest."""
    try:
        value: Any = orjson.loads(body)
    except ValueError:
        value = _read_closely(body)  # orjson refuses some valid JSON, such as lone surrogates in escapes
    else:
        if isinstance(value, dict) and _may_repeat(body, value):
            value = _read_closely(body)
    if not isinstance(value, dict):
        message = "The request body must be a JSON object."
        raise InvalidRequest(message)
    if len(value) > MAX_KEYS:
        message = f"The request body has over {MAX_KEYS} keys."
        raise InvalidRequest(message)
    if (odd := value.keys() - USUAL_NAMES) and (alike := lookalike(odd, TOP_NAMES)) is not None:
        raise InvalidRequest(lookalike_message(alike), param=_param(alike))
    return _facts(value, _NO_SPANS)


def reads_quickly(body: bytes) -> bool:
    """Whether read_body() is quick enough for it; otherwise use read_in_steps().

    The marks are estimated from a sample, since counting those of a megabyte takes as long as parsing it. The sample is
    random, so that no body can be written around it.
    """
    if len(body) <= SMALL_BYTES:
        return True
    if len(body) > QUICK_BYTES:
        return False
    stride = secrets.choice(_STRIDES)
    sample = body[secrets.randbelow(stride) :: stride]
    return (sample.count(b",") + sample.count(b"{") + sample.count(b"[")) * stride <= QUICK_MARKS


async def read_in_steps(
    body: bytes, gone: Callable[[], bool] = lambda: False, turn: asyncio.Lock | None = None
) -> CallFacts:
    """Read a body of any size as read_body() does, in slices.

    It refuses more: over 500,000 objects and arrays, or members of what is judged, brackets over 1,000 deep, numbers
    of over 4,300 digits. Raises InvalidRequest, or AbandonedError if the client is `gone` before the end.
    """
    scan = JsonScan(body, TOP_NAMES - _LISTED, _LISTED)
    try:
        return _facts(await run_in_slices(scan.steps(), gone, turn), scan.spans)
    except JsonFault as fault:
        raise InvalidRequest(fault.message, param=_param(fault.key)) from None


def _facts(value: Mapping[str, Any], spans: Mapping[str, tuple[int, int]]) -> CallFacts:
    model = value.get("model")
    if model is not None and not (isinstance(model, str) and len(model) <= MAX_NAME_LENGTH and _is_text(model)):
        message = f"`model` must be a string of at most {MAX_NAME_LENGTH} characters."
        raise InvalidRequest(message, param="model")
    if "models" in value:
        check_models(model, value["models"])
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        message = "`stream` must be true or false."
        raise InvalidRequest(message, param="stream")
    return CallFacts(model, stream is True, value, spans)


def _may_repeat(body: bytes, value: dict[str, Any]) -> bool:
    """Whether parsing may have dropped the first of two equal keys.

    Most clients send compact JSON: then the parsed value, written out, is the body. Otherwise a dropped key would take
    its quotes with it, unless quotes are written as escapes. Parsing with a hook on every object costs 4 to 10 times
    as much as either check.
    """
    try:
        again = orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes
        return True
    if again == body:
        return False
    return body.find(_ESCAPED_QUOTE) >= 0 or again.count(b'"') != body.count(b'"')


def _read_closely(body: bytes) -> Any:  # noqa: ANN401 - it is whatever JSON holds
    """Parse with the standard library: refuse repeated keys at the top, mark those deeper down."""
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_int=_whole_number, parse_constant=_no_constant
        )
    except UnicodeDecodeError:
        message = "The request body is not UTF-8."
        raise InvalidRequest(message) from None
    except json.JSONDecodeError as error:
        message = f"The request body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise InvalidRequest(message) from None
    except (ValueError, RecursionError):
        message = "The request body is JSON that cannot be read: nested too deeply, or a number out of bounds."
        raise InvalidRequest(message) from None
    if isinstance(value, RepeatedKeys):
        repeated = min(value.repeated)
        raise InvalidRequest(f"The request body has the key {repeated[:64]!r} twice.", param=_param(repeated))
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last of equal keys counts, as with most readers."""
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    times = Counter(key for key, _ in pairs)
    return RepeatedKeys(members, frozenset(key for key, count in times.items() if count > 1))


def _whole_number(digits: str) -> int | float:
    """Long numbers are read as floats: the time for exact ones grows with the square of their digits."""
    if len(digits) <= _EXACT_DIGITS:
        return int(digits)
    if len(digits) > _MAX_DIGITS:
        raise ValueError("too many digits")
    return float(digits)


def _param(key: str | None) -> str | None:
    return key[:64] if key is not None and _is_text(key) else None


def _is_text(value: str) -> bool:
    """Whether it can be encoded. JSON allows lone surrogates, which no ledger, log or answer can store."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)
