"""What must be known of a request body, read from a copy: the bytes that go upstream are the bytes that came.

    reads_quickly ── yes ──> read_body        parsed whole, at once: a few milliseconds at most
                  └─ no ───> read_in_steps    scanned in steps, building nothing (app.domain.request.json_scan)

Parsing the worst 32 MiB whole would stop every other call for seconds and take gigabytes.
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
"""Whatever so few bytes are, reading and judging them takes less than 10 ms."""

QUICK_BYTES = 1024 * 1024
QUICK_MARKS = 20_000
"""Commas and opening brackets, also those within strings: about as many as there are values, or more."""

# Prime, so in step with nothing.
_STRIDES = (197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263, 269, 271, 277, 281)

_LISTED = frozenset({"input", "models", "plugins", "tools"})
"""Judged by parts: of these a body in steps keeps an outline."""

_ESCAPED_QUOTE = b"\\u0022"
_MAX_DIGITS = 4300
_EXACT_DIGITS = 18
_NO_SPANS: Mapping[str, tuple[int, int]] = {}


@dataclass(slots=True, frozen=True)
class CallFacts:
    """The facts that decide how a call is treated.

    `fields` are for admission: the body as parsed, or of one read in steps what is judged, which gives the same
    answers. There `spans` says where each of them stands in the body.
    """

    model: str | None
    stream: bool
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)


def read_body(body: bytes) -> CallFacts:
    """Judge a body: one JSON object in UTF-8 whose top-level keys are all different. Raises InvalidRequest."""
    try:
        value: Any = orjson.loads(body)
    except ValueError:
        value = _read_closely(body)  # orjson refuses some JSON that is merely odd, e.g. lone surrogates in escapes
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


async def read_in_steps(
    body: bytes, gone: Callable[[], bool] = lambda: False, turn: asyncio.Lock | None = None
) -> CallFacts:
    """Judge any body as read_body() does, letting others go on meanwhile. Raises InvalidRequest.

    Raises AbandonedError when the client is `gone` before the end.

    What only a bomb has is refused here: over 500,000 objects and arrays, or members of what is judged, brackets over
    1,000 deep, numbers of over 4,300 digits.
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
    """Parse with the standard library, refusing repeated keys at the top and marking those deeper down."""
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
    """The last of equal keys counts, as it does with most readers."""
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    times = Counter(key for key, _ in pairs)
    return RepeatedKeys(members, frozenset(key for key, count in times.items() if count > 1))


def _whole_number(digits: str) -> int | float:
    """Long ones need not be exact: to read their digits takes time that grows with the square."""
    if len(digits) <= _EXACT_DIGITS:
        return int(digits)
    if len(digits) > _MAX_DIGITS:
        raise ValueError("too many digits")
    return float(digits)


def _param(key: str | None) -> str | None:
    return key[:64] if key is not None and _is_text(key) else None


def _is_text(value: str) -> bool:
    """Can it be written down? JSON can spell lone surrogates, which no ledger, log or answer takes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)
