"""What must be known of a request body, read from a copy: the bytes that go upstream are the bytes that came.

    reads_quickly ── yes ──> read_body        parsed whole, at once: a few milliseconds at most
                  └─ no ───> read_in_steps    scanned in steps, building nothing (app.domain.json_scan)

Parsing the worst 32 MiB whole would stop every other call for seconds and take gigabytes.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.domain.errors import InvalidRequest
from app.domain.json_scan import MAX_KEYS, JsonFault, JsonScan
from app.gateway.steps import in_steps

SMALL_BYTES = 128 * 1024
"""Whatever so few bytes are, reading them is a matter of milliseconds."""

QUICK_BYTES = 2 * 1024 * 1024
QUICK_MARKS = 40_000
"""Commas and opening brackets, also those within strings: about as many as there are values, or more."""

# Prime, so in step with nothing.
_STRIDES = (197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263, 269, 271, 277, 281)

JUDGED = frozenset({"model", "stream"})
JUDGED_BY_LIMITS = frozenset(
    {
        *("conversation", "previous_response_id", "prompt"),
        *("models", "plugins", "preset", "route", "tools"),
        *("background", "max_output_tokens", "safety_identifier"),
    }
)
"""The outermost keys whose values decide anything: the only ones that are read of a body in steps."""

_ESCAPED_QUOTE = b"\\u0022"
_MAX_NAME_LENGTH = 256


@dataclass(slots=True, frozen=True)
class CallFacts:
    """The facts that decide how a call is treated.

    `fields` are for admission: the body as parsed, or of one read in steps what is JUDGED; there, a value of over
    64 KiB that only limits judge is the bytes that it is.
    """

    model: str | None
    stream: bool
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


def read_body(body: bytes) -> CallFacts:
    """Judge a body: one JSON object in UTF-8 whose top-level keys are all different. Raises InvalidRequest."""
    try:
        value: Any = orjson.loads(body)
    except ValueError:
        value = _read_closely(body)  # orjson refuses some JSON that is merely odd, e.g. lone surrogates in escapes
    else:
        if isinstance(value, dict) and _may_repeat(body, value):
            _read_closely(body)
    if not isinstance(value, dict):
        message = "The request body must be a JSON object."
        raise InvalidRequest(message)
    if len(value) > MAX_KEYS:
        message = f"The request body has over {MAX_KEYS} keys."
        raise InvalidRequest(message)
    return _facts(value)


def reads_quickly(body: bytes) -> bool:
    """Whether read_body() is done with it at once; else it is for read_in_steps().

    The marks are estimated from a sample: to count those of a megabyte takes as long as to parse it. Which bytes are
    looked at is drawn anew each time, so that nobody can write a body around them.
    """
    if len(body) <= SMALL_BYTES:
        return True
    if len(body) > QUICK_BYTES:
        return False
    stride = secrets.choice(_STRIDES)
    sample = body[secrets.randbelow(stride) :: stride]
    return (sample.count(b",") + sample.count(b"{") + sample.count(b"[")) * stride <= QUICK_MARKS


async def read_in_steps(body: bytes, gone: Callable[[], bool] = lambda: False) -> CallFacts:
    """Judge any body as read_body() does, letting others go on meanwhile. Raises InvalidRequest.

    Raises AbandonedError when the client is `gone` before the end.

    What only a bomb has is refused here: over 500,000 objects and arrays, brackets over 1,000 deep, numbers of over
    4,300 digits.
    """
    try:
        return _facts(await in_steps(JsonScan(body, JUDGED | JUDGED_BY_LIMITS, JUDGED_BY_LIMITS).steps(), gone))
    except JsonFault as fault:
        raise InvalidRequest(fault.message, param=_param(fault.key)) from None


def _facts(value: Mapping[str, Any]) -> CallFacts:
    model = value.get("model")
    if model is not None and not (isinstance(model, str) and _is_text(model)):
        message = "`model` must be a string."
        raise InvalidRequest(message, param="model")
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        message = "`stream` must be true or false."
        raise InvalidRequest(message, param="stream")
    return CallFacts(model[:_MAX_NAME_LENGTH] if model is not None else None, stream is True, value)


def _may_repeat(body: bytes, value: dict[str, Any]) -> bool:
    """False only when nothing was dropped in parsing, as the first of two equal keys would have been.

    Most clients send compact JSON: then the parsed value, written out, is the body. Else a dropped key would at least
    have taken its quotes with it (no quote being spelt as a number). Parsing with a hook on every object
    is 4-10 times dearer than either.
    """
    try:
        again = orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes
        return True
    if again == body:
        return False
    return body.find(_ESCAPED_QUOTE) >= 0 or again.count(b'"') != body.count(b'"')


def _read_closely(body: bytes) -> Any:  # noqa: ANN401 - it is whatever JSON holds
    """Parse with the standard library, refusing repeated keys at the top."""
    outermost: list[list[tuple[str, Any]]] = []

    def keep_last(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        outermost[:] = [pairs]  # objects are finished from the inside out: the last one is the outermost
        return dict(pairs)

    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=keep_last, parse_constant=_no_constant)
    except UnicodeDecodeError:
        message = "The request body is not UTF-8."
        raise InvalidRequest(message) from None
    except json.JSONDecodeError as error:
        message = f"The request body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise InvalidRequest(message) from None
    except (ValueError, RecursionError):
        message = "The request body is JSON that cannot be read: nested too deeply, or a number out of bounds."
        raise InvalidRequest(message) from None
    if isinstance(value, dict):
        repeated = _first_repeated(key for key, _ in outermost[0])
        if repeated is not None:
            message = f"The request body has the key {repeated[:64]!r} twice."
            raise InvalidRequest(message, param=_param(repeated))
    return value


def _param(key: str | None) -> str | None:
    return key[:64] if key is not None and _is_text(key) else None


def _is_text(value: str) -> bool:
    """Can it be written down? JSON can spell lone surrogates, which no ledger, log or answer takes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _first_repeated(keys: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return None


def _no_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)
