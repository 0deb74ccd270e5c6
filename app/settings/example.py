"""The example file: every setting with its description and its default, as a valid TOML file."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from app.settings.environment import VARIABLES
from app.settings.model import NOT_IN_FILES, Settings, sections
from app.settings.quantities import format_size
from app.settings.section import Section

_HEAD = """\
# Weighbridge: every setting with its default. A setting without a default is commented out.
# A flag wins over the environment variable (in parentheses), that over this file. Empty variables do not count.
# Sizes are bytes or "32MiB"; durations are seconds or "90s", "10m", "1h". Relative paths start at this file.
"""
_PRICES = """\
# {description}
# input and output are required; cached_input, cache_write and per_request (US dollars a call) are optional.
#[prices."vendor/model"]
#input = "0.25"
#output = "2"
#cached_input = "0.025"
#cache_write = "0.3"
#per_request = "0"
"""


def example_toml() -> str:
    """The whole file. Settings without a fixed default are comments with a sample value."""
    tables = [_table(name, section) for name, section in sections().items()]
    prices = _PRICES.format(description=Settings.model_fields["prices"].description)
    return "\n".join((_HEAD, *tables, prices))


def documented_fields(section: type[Section]) -> Mapping[str, FieldInfo]:
    """The fields of a table that may be set in a file."""
    return {key: field for key, field in section.model_fields.items() if key not in NOT_IN_FILES}


def default_toml(key: str, field: FieldInfo) -> str | None:
    """A field's default as TOML, or None if it has no fixed one."""
    if field.is_required() or field.default_factory is not None or field.default is None:
        return None
    return _toml(key, field.default)


def variable_of(setting: str) -> str | None:
    """The environment variable of a setting, the preferred one of two."""
    return {path: name for name, path in VARIABLES.items()}.get(setting)


def _table(name: str, section: type[Section]) -> str:
    heading = f"[[{name}]]" if name == "upstream" else f"[{name}]"
    lines = [line for key, field in documented_fields(section).items() for line in _setting(name, key, field)]
    return "\n".join((heading, *lines, ""))


def _setting(table: str, key: str, field: FieldInfo) -> Iterator[str]:
    variable = variable_of(f"{table}.{key}")
    yield f"# {field.description}" + (f" ({variable})" if variable else "")
    default = default_toml(key, field)
    yield f"{key} = {default}" if default is not None else f"#{key} = {_toml(key, (field.examples or [''])[0])}"


def _toml(key: str, value: object) -> str:
    """A value as TOML. Strings, numbers and lists of strings are the same in JSON."""
    if key.endswith("_bytes") and isinstance(value, int):
        value = format_size(value)
    return json.dumps(str(value) if isinstance(value, Path) else value)
