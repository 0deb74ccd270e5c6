"""Finds the code and the message of upstream's error in an event, a response or a body."""

import re
from collections.abc import Iterable

CODE_LIMIT = 64
MESSAGE_LIMIT = 2048
_NOT_IN_CODE = re.compile(r"[^A-Za-z0-9_.:-]+")

Json = dict[str, object]


def error_word(*documents: Json) -> str | None:
    """The error's code as text: at most 64 characters out of [A-Za-z0-9_.:-]. `code` goes before `type` and others."""
    return _first_code(value for value in _codes_in(documents) if isinstance(value, str))


def error_code(*documents: Json) -> str | None:
    """The same; a number only if there is no text, since numbers repeat the HTTP status."""
    return error_word(*documents) or _first_code(str(value) for value in _codes_in(documents) if type(value) is int)


def error_message(*documents: Json) -> str | None:
    """Upstream's error message, cut at 2,048 characters.

    OpenRouter may only say "Provider returned error"; then the provider's own message is added.
    """
    errors = [object_of(document.get("error")) for document in documents]
    values = [source.get("message") for source in (*errors, *documents)]
    values += [document.get("error") for document in documents]  # `{"error": "text"}`
    message = next((value for value in values if isinstance(value, str) and value.strip()), None)
    if message is None:
        return None
    details = [object_of(error.get("metadata")) for error in errors]
    raw_messages = [f"{d.get('provider_name') or 'provider'}: {raw}" for d in details if (raw := d.get("raw"))]
    return (f"{message} ({raw_messages[0]})" if raw_messages else message)[:MESSAGE_LIMIT]


def _codes_in(documents: Iterable[Json]) -> list[object]:
    errors = [object_of(document.get("error")) for document in documents]
    sources = [*errors, *documents]
    values = [source.get("code") for source in sources]
    values += [error.get("type") for error in errors]
    values += [source.get("error_type") for source in sources]
    values += [object_of(error.get("metadata")).get("error_type") for error in errors]
    return values


def _first_code(values: Iterable[str]) -> str | None:
    """The first value that contains an identifier, made safe to store and to show."""
    codes = (_NOT_IN_CODE.sub("_", value[: 4 * CODE_LIMIT])[:CODE_LIMIT].strip("_") for value in values)
    return next((code for code in codes if code), None)


def object_of(value: object) -> Json:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
