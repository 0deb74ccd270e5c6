"""docs/configure.md and the example file name every setting, with its variable and its default."""

import re
from pathlib import Path

import pytest

from app.settings.environment import (
    ADMIN_KEY_VARIABLE,
    CONFIG_VARIABLE,
    FILE_VARIABLES,
    SECRET_VARIABLES,
    UPSTREAM_KEY_VARIABLES,
    URL_VARIABLES,
    VARIABLES,
)
from app.settings.example import default_toml, documented_fields, example_toml, variable_of
from app.settings.model import sections

PAGE = (Path(__file__).parents[2] / "docs" / "configure.md").read_text()
SETTINGS = [(section, key) for section, model in sections().items() for key in documented_fields(model)]


def row_of(section: str, key: str) -> list[str]:
    """The cells of a setting's row below its table's heading."""
    heading = f"## `[[{section}]]`" if section == "upstream" else f"## `[{section}]`"
    _, found, below = PAGE.partition(f"\n{heading}")
    assert found, f"{heading} is missing"
    rows = [line for line in below.partition("\n## ")[0].splitlines() if line.startswith(f"| `{key}` |")]
    assert len(rows) == 1, f"{section}.{key} must have one row"
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_every_setting_has_a_row_with_its_variable_and_default(section: str, key: str) -> None:
    _, variables, default, meaning = row_of(section, key)
    expected = {name for name, setting in VARIABLES.items() if setting == f"{section}.{key}"}
    assert {name for name in VARIABLES if f"`{name}`" in variables} == expected
    field = documented_fields(sections()[section])[key]
    fixed = default_toml(key, field)
    assert default == f"`{fixed}`" if fixed is not None else default
    assert meaning


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_every_setting_stands_in_the_example_with_its_meaning_and_variable(section: str, key: str) -> None:
    lines = example_toml().splitlines()
    (place,) = (
        index
        for index, line in enumerate(lines)
        if line.startswith((f"{key} = ", f"#{key} = ")) and heading_above(lines, index) == section
    )
    description = documented_fields(sections()[section])[key].description
    assert description
    assert lines[place - 1].startswith(f"# {description}")
    assert (variable_of(f"{section}.{key}") or "") in lines[place - 1]


def heading_above(lines: list[str], index: int) -> str:
    return next(line for line in reversed(lines[:index]) if line.startswith("[")).strip("[]")


@pytest.mark.parametrize("name", [*UPSTREAM_KEY_VARIABLES, ADMIN_KEY_VARIABLE, *URL_VARIABLES])
def test_the_keys_variables_are_there_with_their_file_twins(name: str) -> None:
    assert f"`{name}`" in PAGE
    assert f"`{name}_FILE`" in PAGE


def test_every_variable_on_the_page_exists() -> None:
    known = {*VARIABLES, *SECRET_VARIABLES, *FILE_VARIABLES, CONFIG_VARIABLE}
    assert set(re.findall(r"WEIGHBRIDGE_[A-Z_]*[A-Z]", PAGE)) <= known
