"""The words of the program: each public class name once, no circles of files, a glossary that is in use."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "app"
SOURCES = sorted(APP.rglob("*.py"))
WORD = re.compile(r"^\| \*\*(.+?)\*\* \|", re.MULTILINE)


def modules() -> dict[str, ast.Module]:
    named = {}
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        named[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text())
    return named


def imported(tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of `app` that a module imports: at its top, within functions, and for its types."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names):
                found |= {f"{module}.{alias.name}" for alias in names} & known or {module}
    return found & known


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, directly or through others."""
    reached: dict[str, set[str]] = {}
    for start, imports in graph.items():
        seen: set[str] = set()
        pending = list(imports)
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                pending += graph.get(name, ())
        reached[start] = seen
    return sorted(name for name, seen in reached.items() if name in seen)


def test_no_circle_of_files() -> None:
    trees = modules()
    graph = {name: imported(tree, set(trees)) for name, tree in trees.items()}
    assert circles(graph) == []


def test_circles_are_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_word_of_the_glossary_is_in_use() -> None:
    """In the code, as a class, a function or in its text: a word that nobody uses explains nothing."""
    words = WORD.findall((ROOT / "docs/glossary.md").read_text())
    assert 50 <= len(words) <= 80
    text = "\n".join(path.read_text() for path in SOURCES).lower()
    squeezed = re.sub(r"[\s_-]", "", text)
    assert [word for word in words if re.sub(r"[\s_-]", "", word.lower()) not in squeezed] == []
