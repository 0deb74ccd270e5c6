"""The outline of a large value: only the parts that decide something, built while a JsonScan skips the rest.

The checks in app.domain.request.input_items and models_asked give the same results for it as for the value itself. Its
size is bounded however large the value is:

    input            the first reference to a stored item, and the first ambiguous item
    tools, plugins   the entries that name a model, until there are too many names; of these entries the objects and
                     lists that lead to a name, or that lie deeper than models_asked looks
    models           its first names
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto

from app.domain.errors import InvalidRequest
from app.domain.request.input_items import check_items, is_reference
from app.domain.request.judged_names import ITEM_NAMES, NAMING, RepeatedKeys, lookalike
from app.domain.request.models_asked import DEEPEST, MAX_NAMES, of_plugin, of_tool

NOT_TEXT = 0
"""Replaces a value that is no text and whose content does not matter."""

_OTHER = ""
"""Replaces all keys of an object that are not judged."""

_WHOLE_BYTES = 4096
"""A text of more bytes has more than MAX_NAME_LENGTH characters, however it is spelt."""

_HEAD = re.compile(rb'"(?:[^"\\]|\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])){0,2048}+')


class _Kind(Enum):
    ENTRIES = auto()  # the outermost list of input, tools or plugins
    ITEM = auto()  # of input
    NODE = auto()  # an object or a list somewhere within tools or plugins
    NAMES = auto()  # a list of names


class _Open:
    """A container that has not ended."""

    __slots__ = ("depth", "entries", "is_object", "key", "keys", "kind", "members", "repeated")

    def __init__(self, kind: _Kind, depth: int, *, is_object: bool) -> None:
        self.kind = kind
        self.depth = depth
        self.is_object = is_object
        self.key = ""
        self.keys: set[str] = set()
        self.repeated: set[str] = set()
        self.members: dict[str, object] = {}
        self.entries: list[object] = []


class Outline:
    """The outline of one value. The scan reports all tokens, except those within a container that enter() declines."""

    def __init__(self, key: str) -> None:
        self.value: object = None
        self._key = key
        self._open: list[_Open] = []
        self._found = 0  # names in the open entry, and other reasons to refuse it: nothing is kept beyond MAX_NAMES
        self._keeps: Callable[[object], bool] = {"plugins": _Naming(of_plugin), "tools": _Naming(of_tool)}.get(
            key, _Ambiguous()
        )

    def key(self, key: str) -> None:
        """The value of this key comes next."""
        top = self._open[-1]
        top.key = key
        if key in top.keys:
            top.repeated.add(key)
        top.keys.add(key)

    def scalar(self, body: bytes, start: int, stop: int) -> None:
        """`body[start:stop]` is a value that is no container, or an empty one."""
        first = body[start : start + 1]
        if first == b'"':
            self._put(head_of(body, start) if stop - start > _WHOLE_BYTES else json.loads(body[start:stop]))
        else:
            self._put([] if first == b"[" else None if first == b"n" else NOT_TEXT)

    def enter(self, *, is_object: bool) -> bool:
        """A container begins. False if its content does not matter."""
        top = self._open[-1] if self._open else None
        kind = self._kind_of_first(is_object=is_object) if top is None else self._kind_within(top, is_object=is_object)
        if kind is None:
            self._put(NOT_TEXT)
            return False
        depth = 0 if top is None or top.kind is _Kind.ENTRIES else top.depth + 1
        self._open.append(_Open(kind, depth, is_object=is_object))
        return True

    def leave(self) -> None:
        """The container entered last ends."""
        top = self._open.pop()
        if top.repeated and self._found <= MAX_NAMES:
            self._found = MAX_NAMES + 1
            self._put(RepeatedKeys(top.members, frozenset(top.repeated)))
        else:
            self._put(top.members if top.is_object else top.entries)

    def _kind_of_first(self, *, is_object: bool) -> _Kind | None:
        if self._key == "models":
            return None if is_object else _Kind.NAMES
        if is_object:
            return None if self._key == "input" else _Kind.NODE
        return _Kind.ENTRIES

    def _kind_within(self, top: _Open, *, is_object: bool) -> _Kind | None:
        if top.kind is _Kind.ENTRIES:
            return _Kind.NODE if self._key != "input" else _Kind.ITEM if is_object else None
        if top.kind is not _Kind.NODE:
            return None
        if top.is_object and top.key in NAMING:
            return None if is_object else _Kind.NAMES
        return _Kind.NODE if top.depth < DEEPEST else None

    def _put(self, value: object) -> None:
        """Add a whole value to its container."""
        if not self._open:
            self.value = value
            return
        top = self._open[-1]
        if top.kind is _Kind.ENTRIES:
            self._found = 0
            if self._keeps(value):
                top.entries.append(value)
        elif top.kind is _Kind.NAMES:
            if len(top.entries) <= MAX_NAMES:
                top.entries.append(value if isinstance(value, str) else NOT_TEXT)
        elif top.kind is _Kind.ITEM:
            judged = top.key in ITEM_NAMES or lookalike((top.key,), ITEM_NAMES) is not None
            top.members[top.key if judged else _OTHER] = value
        elif top.is_object:
            self._put_member(top, value)
        elif _leads_on(value) or (top.depth == DEEPEST and not top.entries and self._counts()):
            top.entries.append(value)

    def _put_member(self, top: _Open, value: object) -> None:
        """Add a whole value to an object within a tool or a plugin."""
        key, members = top.key, top.members
        if key in NAMING:
            if value is not None and value != [] and self._counts(len(value) if isinstance(value, list) else 1):
                members[key] = value
        elif top.depth == 0 and key in ITEM_NAMES:
            members[key] = value
        elif lookalike((key,), NAMING | ITEM_NAMES) is not None:
            if self._counts():
                members[key] = None
        elif _leads_on(value):
            members[f"{_OTHER}{len(members)}"] = value
        elif top.depth == DEEPEST and _OTHER not in members and self._counts():
            members[_OTHER] = None

    def _counts(self, names: int = 1) -> bool:
        """Count names; returns whether they are kept."""
        kept = self._found <= MAX_NAMES
        self._found += names
        return kept


def _leads_on(value: object) -> bool:
    return isinstance(value, (dict, list)) and (bool(value) or type(value) is RepeatedKeys)


class _Naming:
    """Keeps the entries that name a model, up to the first ambiguous one, which refuses the call."""

    def __init__(self, names_of: Callable[[object], Iterator[object]]) -> None:
        self._names_of = names_of
        self._names = 0

    def __call__(self, entry: object) -> bool:
        if self._names > MAX_NAMES:
            return False
        try:
            names = sum(1 for _ in self._names_of(entry))
        except InvalidRequest:
            names = MAX_NAMES + 1
        self._names += names
        return names > 0


class _Ambiguous:
    """Keeps the first reference and the first ambiguous item."""

    def __init__(self) -> None:
        self._seen: set[bool] = set()

    def __call__(self, item: object) -> bool:
        if not isinstance(item, dict):
            return False
        ambiguous = _is_ambiguous(item)
        if ambiguous in self._seen or not (ambiguous or is_reference(item)):
            return False
        self._seen.add(ambiguous)
        return True


def _is_ambiguous(item: Mapping[str, object]) -> bool:
    try:
        check_items({"input": [item]})
    except InvalidRequest:
        return True
    return False


def head_of(body: bytes, start: int) -> object:
    """What is kept of a long value: the start of a text, longer than a name may be, or NOT_TEXT."""
    if body[start : start + 1] != b'"':
        return NOT_TEXT
    found = _HEAD.match(body[start : start + _WHOLE_BYTES])
    return "" if found is None else json.loads(found[0].decode("utf-8", "ignore") + '"')
