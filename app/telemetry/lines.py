"""One log event made into one line: stamped, cleaned of secrets and control characters, cut, and written.

The functions here are structlog processors: they take an event's fields and hand on fields, the last one text.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson
from structlog.typing import EventDict, WrappedLogger

from app.domain.record_json import MICROSECONDS, rfc3339
from app.telemetry.redaction import Redactor, escape

if TYPE_CHECKING:
    import logging

LONGEST_VALUE = 2048
LONGEST_TRACEBACK = 16 * 1024
"""Characters. A traceback keeps more, its end above all: there stands what went wrong."""

_MOST_ITEMS = 64
_DEEPEST = 4
_LARGEST_INTEGER = 2**53
_LEFT_BEHIND = ("message", "asctime", "color_message")
"""On a record that another handler formatted first, or that uvicorn has decorated."""
_SHOWN_ELSEWHERE = frozenset({"time", "level", "logger", "event", "exception"})


def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Time, level and logger of the event, first in line."""
    record = cast("logging.LogRecord", event["_record"])
    for name in _LEFT_BEHIND:
        event.pop(name, None)
    if isinstance(text := event.get("event"), str):
        event["event"] = text.strip()
    stamped = {
        "time": rfc3339(int(record.created * MICROSECONDS)),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    return {**stamped, **event, **stamped}  # first in line, and no field of the event's may pass for them


class Cleaner:
    """Makes every value plain: redacted, escaped and cut text, numbers, and lists and mappings of these."""

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        trace = event.pop("exception", None)
        cleaned: EventDict = self._mapping(event, 0)
        if trace is not None:
            cleaned["exception"] = self._traceback(str(trace))
        return cleaned

    def text(self, value: str, longest: int = LONGEST_VALUE) -> str:
        """One line of text. Redacted before it is cut: half a key at the end would not be known for one."""
        return _head(escape(self._redact(value[: 32 * longest])), longest)

    def _traceback(self, trace: str) -> str:
        trace = self._redact(_ends(trace, 4 * LONGEST_TRACEBACK))
        return _ends(escape(trace, keep_newlines=True), LONGEST_TRACEBACK)

    def _mapping(self, value: Mapping[Any, object], depth: int) -> dict[str, object]:
        return {self.text(str(key)): self._value(item, depth) for key, item in list(value.items())[:_MOST_ITEMS]}

    def _value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int) and abs(value) <= _LARGEST_INTEGER:
            return int(value)
        if isinstance(value, str):
            return self.text(value)
        if depth < _DEEPEST and isinstance(value, Mapping):
            return self._mapping(value, depth + 1)
        if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
            return [self._value(item, depth + 1) for item in list(value)[:_MOST_ITEMS]]
        return self.text(_shown(value))


def render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """One JSON object; what `Cleaner` let through always fits."""
    return orjson.dumps(event).decode()


def render_console(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """`12:00:01 warning what happened key=value`; a traceback follows, indented so that it cannot pass for a line."""
    parts = [event["time"][11:19], event["level"], str(event.get("event"))]
    parts += [f"{key}={_console_value(value)}" for key, value in event.items() if key not in _SHOWN_ELSEWHERE]
    trace = event.get("exception")
    return " ".join(parts) + ("" if trace is None else "\n    " + trace.replace("\n", "\n    "))


def _console_value(value: object) -> str:
    if isinstance(value, str) and value and not set(' "=') & set(value):
        return value
    return orjson.dumps(value).decode()


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a repr is anyone's code; the line matters more
        return f"<{type(value).__name__} without repr>"


def _head(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _ends(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    head = longest // 4
    return f"{text[:head]}\n...\n{text[head - longest :]}"
