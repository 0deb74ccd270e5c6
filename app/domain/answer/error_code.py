"""Upstream's own word for an error, and its message, wherever they stand: in an event, its response, a body."""

import re
from collections.abc import Iterable

CODE_LIMIT = 64
MESSAGE_LIMIT = 2048
_NOT_IN_CODE = re.compile(r"[^A-Za-z0-9_.:-]+")

Json = dict[str, object]


def error_word(*documents: Json) -> str | None:
    """The best word, as an identifier of at most 64 characters out of [A-Za-z0-9_.:-]: `code`, then `type`, others."""
    return _first_code(value for value in _codes_in(documents) if isinstance(value, str))


def error_code(*documents: Json) -> str | None:
    """The same, or the number where there is no word: numbers only repeat an HTTP status."""
    return error_word(*documents) or _first_code(str(value) for value in _codes_in(documents) if type(value) is int)


def error_message(*documents: Json) -> str | None:
    """What upstream says of the error in words, as far as it is read: 2,048 characters.

    OpenRouter's own words may only be "Provider returned error"; the provider's stand beside them.
    """
    errors = [object_of(document.get("error")) for document in documents]
    values = [source.get("message") for source in (*errors, *documents)]
    values += [document.get("error") for document in documents]  # `{"error": "text"}`
    message = next((value for value in values if isinstance(value, str) and value.strip()), None)
    if message is None:
        return None
    details = [object_of(error.get("metadata")) for error in errors]
    told = [f"{detail.get('provider_name') or 'provider'}: {raw}" for detail in details if (raw := detail.get("raw"))]
    return (f"{message} ({told[0]})" if told else message)[:MESSAGE_LIMIT]


def _codes_in(documents: Iterable[Json]) -> list[object]:
    errors = [object_of(document.get("error")) for document in documents]
    sources = [*errors, *documents]
    values = [source.get("code") for source in sources]
    values += [error.get("type") for error in errors]
    values += [source.get("error_type") for source in sources]
    values += [object_of(error.get("metadata")).get("error_type") for error in errors]
    return values


def _first_code(values: Iterable[str]) -> str | None:
    """The first of the values that has an identifier in it, made safe to store and to show."""
    codes = (_NOT_IN_CODE.sub("_", value[: 4 * CODE_LIMIT])[:CODE_LIMIT].strip("_") for value in values)
    return next((code for code in codes if code), None)


def object_of(value: object) -> Json:
    """A JSON object, empty when the value is none."""
    return value if isinstance(value, dict) else {}
