"""docs/clients.md shows what `connect` prints; tests/cli/test_connect.py runs that."""

import re
from pathlib import Path

import pytest

from app.cli.connect import KEY_PLACEHOLDER
from app.cli.server_address import from_settings
from app.cli.snippets import Program, SnippetValues, blocks
from app.settings import load_settings

PAGE = Path(__file__).parents[2] / "docs/clients.md"
SECTION = re.compile(r"^`weighbridge connect (\S+)`\n(.*?)(?=^### |^## )", re.DOTALL | re.MULTILINE)
SECTIONS = {found[1]: found[2] for found in SECTION.finditer(PAGE.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("program", Program)
def test_the_page_shows_what_is_printed(program: Program) -> None:
    address = from_settings(load_settings(environ={"HOME": "/nowhere"}, need_upstream_key=False))
    shown = re.findall(r"^([^\n]+):\n```(\w+)\n(.*?)\n```", SECTIONS[program], re.DOTALL | re.MULTILINE)
    printed = blocks(program, SnippetValues(address.base_url, KEY_PLACEHOLDER, address.model))
    assert shown == [(block.where, block.language, block.text) for block in printed]


def test_the_page_shows_nothing_else() -> None:
    assert set(SECTIONS) == set(Program)
