"""docs/doctor.md names every check that doctor makes, and no other."""

import re
from pathlib import Path

from app.cli import doctor

PAGE = (Path(__file__).parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in Path(doctor.__file__).parent.glob("*.py"))
NAMED = re.compile(
    r'\b(?:ok|warn|fail|_part)\("([a-zA-Z -]+)"|\bcheck = "([a-zA-Z -]+)"|check_call\(gateway, "([a-zA-Z -]+)"'
)


def test_the_page_names_every_check() -> None:
    made = {name for groups in NAMED.findall(SOURCES) for name in groups if name}
    first_cells = re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`([a-zA-Z -]+)`", cell)} - {"connection"}
    assert {"settings", "codex zstd", "agents", "redis"} <= made
    assert named == made
