"""What must be known of a request body, read from a copy: the bytes that go upstream are the bytes that came."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from app.domain.errors import InvalidRequest

_ESCAPED_QUOTE = b"\\u0022"
_MAX_NAME_LENGTH = 256


@dataclass(slots=True, frozen=True)
class CallFacts:
    """The facts that decide how a call is treated."""

    model: str | None
    stream: bool


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
    model = value.get("model")
    if model is not None and not (isinstance(model, str) and _is_text(model)):
        message = "`model` must be a string."
        raise InvalidRequest(message, param="model")
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        message = "`stream` must be true or false."
        raise InvalidRequest(message, param="stream")
    return CallFacts(model[:_MAX_NAME_LENGTH] if model is not None else None, stream is True)


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
    return _ESCAPED_QUOTE in body or again.count(b'"') != body.count(b'"')


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
            raise InvalidRequest(message, param=repeated[:64] if _is_text(repeated) else None)
    return value


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
