"""The house rules that a machine can see. Each rule is tried on what it must refuse, too."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = ROOT / "app"
SOURCES = sorted(APP.rglob("*.py"))

FILE_LINES, FUNCTION_LINES = 300, 50
NOT_A_NOUN = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "base", "misc"}
OUTSIDE = {"asyncio", "http", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading"}
CLOCKS = {"now", "today", "utcnow", "monotonic", "monotonic_ns", "perf_counter", "sleep", "time_ns"}
DECISION_HEADINGS = ["Context", "Decision", "What it costs", "Passed over"]
LOCKS_THAT_NAME_HOSTS = {"uv.lock", "poetry.lock", "Pipfile.lock", "package-lock.json"}

SQL_VERBS = "SELECT|INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP|ATTACH|PRAGMA|VACUUM"
SQL = re.compile(rf"\s*(WITH|{SQL_VERBS}|{SQL_VERBS.lower()})\s")
EXECUTES = {"execute", "executemany", "executescript", "exec_driver_sql", "text"}
REGISTRY = re.compile(r"--(extra-)?index-url|--find-link[s]|\b(py[p]i|python[h]osted|npm[j]s)\.(org|com)")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")  # into the tree; those with a scheme lead out of it
HOME = re.compile(r"(?<![\w.~>-])/(home|Users)/[A-Za-z][\w.-]*/|(?<![\w.~>-])/roo[t]/")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def too_long(tree: ast.AST) -> list[str]:
    """Functions over the limit, without their decorators."""
    return [f.name for f in functions(tree) if (f.end_lineno or f.lineno) - f.lineno + 1 > FUNCTION_LINES]


def _pieces(node: ast.AST) -> list[ast.expr] | None:
    """The parts a text is put together from at run time, or None for anything that is not put together."""
    match node:
        case ast.JoinedStr(values):
            return values
        case ast.BinOp(left, ast.Mod() | ast.Add(), right):
            return [left, right]
        case ast.Call(ast.Attribute(receiver, "format" | "join")):
            return [receiver]
    return None


def built_sql(tree: ast.AST) -> list[int]:
    """Lines where SQL is put together from texts: an f-string, `%`, `+`, format or join."""
    found = set()
    for node in ast.walk(tree):
        starts = [p.value for p in _pieces(node) or () if isinstance(p, ast.Constant) and isinstance(p.value, str)][:1]
        if any(SQL.match(start) for start in starts):
            found.add(node.lineno)  # type: ignore[attr-defined]  # every node with pieces is an expression
        if isinstance(node, ast.Call) and node.args and _pieces(node.args[0]) is not None:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in EXECUTES:
                found.add(node.lineno)
    return sorted(found)


def not_pure(tree: ast.AST) -> list[str]:
    """What a rule of `domain` may not have: async, I/O, a clock, a library, another floor."""
    pure = sys.stdlib_module_names - OUTSIDE
    modules: list[str] = []
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef(name=name):
                found.append(f"async {name}")
            case ast.Import(names=names):
                modules += [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names):
                modules.append(module)
                found += [alias.name for alias in names if alias.name in CLOCKS]
            case ast.Attribute(attr=attr) if attr in CLOCKS or ast.unparse(node) == "time.time":
                found.append(attr)
    return found + [m for m in modules if not m.startswith("app.domain") and m.partition(".")[0] not in pure]


def kept_files() -> list[Path]:
    """What git keeps, or would keep: tracked files and new ones that are not ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_file_is_short_enough_to_be_one_noun() -> None:
    assert {relative(p): lines for p in SOURCES if (lines := len(p.read_text("utf-8").splitlines())) > FILE_LINES} == {}
    assert {relative(p): long for p in SOURCES if (long := too_long(parse(p)))} == {}


def test_every_file_is_named_by_a_noun() -> None:
    assert [relative(p) for p in SOURCES if {p.stem, *p.relative_to(APP).parts} & NOT_A_NOUN] == []


def test_every_package_says_what_it_is() -> None:
    folders = {path.parent for path in SOURCES}
    heads = {folder: folder / "__init__.py" for folder in folders}
    silent = [relative(f) for f, head in heads.items() if not head.exists() or not ast.get_docstring(parse(head))]
    assert {APP / "domain", APP / "gateway"} <= folders
    assert silent == []


def test_sql_is_never_put_together_from_text() -> None:
    assert {relative(p): lines for p in sorted((APP / "store").rglob("*.py")) if (lines := built_sql(parse(p)))} == {}


def test_the_domain_has_rules_and_arithmetic_only() -> None:
    assert {relative(p): bad for p in sorted((APP / "domain").rglob("*.py")) if (bad := not_pure(parse(p)))} == {}


def test_every_decision_says_what_it_costs() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    for number, path in enumerate(decisions, start=1):
        assert path.name.startswith(f"{number:04}-"), "decisions are numbered without gaps"
        assert re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE) == DECISION_HEADINGS, path.name
    assert decisions


def test_links_in_documents_lead_somewhere() -> None:
    documents = [path for path in kept_files() if path.suffix == ".md"]
    links = [(path, link) for path in documents for link in LINK.findall(path.read_text(encoding="utf-8"))]
    assert (ROOT / "README.md", "docs/architecture.md") in links
    assert [(relative(path), link) for path, link in links if not (path.parent / link).exists()] == []


def test_no_file_names_a_registry_or_somebodys_home() -> None:
    files = kept_files()
    assert ROOT / "README.md" in files
    assert [relative(f) for f in files if f.name in LOCKS_THAT_NAME_HOSTS] == []
    texts = {relative(f): f.read_bytes().decode(errors="replace") for f in files}
    assert [name for name, text in texts.items() if REGISTRY.search(text) or HOME.search(text)] == []
    assert [name for name, text in texts.items() if name.startswith("requirements") and "://" in text] == []


LONG = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
REFUSED: list[tuple[Callable[[ast.AST], list[str] | list[int]], str]] = [
    (too_long, LONG),
    (too_long, f"class C:\n{LONG}".replace("\n", "\n  ").rstrip(" ")),
    (built_sql, "q = f'SELECT {column} FROM records'"),
    (built_sql, "q = 'select * from records where id = %s' % key"),
    (built_sql, "q = 'DELETE FROM keys WHERE client = ' + name"),
    (built_sql, "q = 'INSERT INTO {} VALUES (1)'.format(table)"),
    (built_sql, "connection.execute(prefix + 'FROM records')"),
    (built_sql, "sqlalchemy.text(f'{verb} everything')"),
    (not_pure, "async def f(): ..."),
    (not_pure, "import asyncio"),
    (not_pure, "import time\nstarted = time.time()"),
    (not_pure, "from time import monotonic"),
    (not_pure, "from os.path import join"),
    (not_pure, "import httpx2"),
    (not_pure, "from app.gateway import ports"),
    (not_pure, "from datetime import datetime\ndatetime.now()"),
]


@pytest.mark.parametrize(("rule", "source"), REFUSED)
def test_a_rule_refuses_what_it_is_for(rule: Callable[[ast.AST], list[str] | list[int]], source: str) -> None:
    assert rule(ast.parse(source))


@pytest.mark.parametrize("source", ["q = 'SELECT 1'", "log(f'{n} rows')", "connection.execute(INSERT, values)"])
def test_plain_sql_is_allowed(source: str) -> None:
    assert built_sql(ast.parse(source)) == []


def test_addresses_and_homes_are_seen() -> None:
    assert REGISTRY.search("--index-" + "url https://mirror")
    assert HOME.search('cache = "/home/' + 'alice/x"')
    assert HOME.search("cd /ro" + "ot/work")
    assert not HOME.search("https://github.com/ho" + "me/x/ and $HOME/x, app/ro" + "ot/y")
