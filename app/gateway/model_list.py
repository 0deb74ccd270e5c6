"""Upstream's list of models as a client gets it: only what its allow-lists allow.

    {"object": "list", "data": [...]}                   as OpenAI's SDKs read it
    {"object": "list", "data": [...], "models": [...]}  asked with `client_version`: Codex reads `models`

The entries are upstream's own. `models` is empty where upstream has no such entries: Codex needs fields that nobody
can make up.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, Self

import orjson

from app.domain.request.model_patterns import ModelPatterns
from app.domain.request.models_asked import MAX_NAME_LENGTH

MOST_MODELS = 10_000
_MOST_KEPT_ANSWERS = 64
_MOST_KEPT_BYTES = 32 * 1024 * 1024

AllowLists = Sequence[ModelPatterns]
"""All must allow a model."""


@dataclass(slots=True, frozen=True)
class ListedModel:
    """A model's name, and its entry as JSON."""

    name: str
    entry: bytes


@dataclass(slots=True, frozen=True)
class ListAnswer:
    """The body of an answer, and its entity tag."""

    body: bytes
    etag: str


class ModelLists(Protocol):
    """Where lists come from."""

    def keeps(self, client_version: str | None) -> bool:
        """Whether the list for this version is kept, so that upstream is not asked only because of it."""

    async def get(self, client_version: str | None) -> "ModelList":
        """The list, or the list for that version of Codex. Raises UpstreamFault or Overloaded."""


class ModelList:
    """One list. `codex` are the entries of `models`, None when they were not asked for.

    With `from_names` upstream has no list: the names that a client's allow-lists have without a wildcard are added.
    """

    def __init__(
        self, data: Sequence[ListedModel], codex: Sequence[ListedModel] | None = None, *, from_names: bool = False
    ) -> None:
        self._data = data
        self._codex = codex
        self.from_names = from_names
        self._by_name = {model.name: model for model in reversed(data)}  # the first of a name wins
        self._answers: dict[tuple[tuple[str, ...], ...], ListAnswer] = {}

    @classmethod
    def read(cls, body: bytes, *, codex: bool) -> Self:
        """Read an answer of upstream. Takes long for a large one. Raises ValueError when it is no list of models."""
        document = orjson.loads(body)
        fields = document if isinstance(document, dict) else {"data": document}
        data, models = fields.get("data"), fields.get("models") if codex else None
        if not isinstance(data, list) and not isinstance(models, list):
            raise ValueError("neither `data` nor `models` is a list")  # noqa: TRY004 - the data is wrong, not a type
        return cls(_entries(data, "id"), _entries(models, "slug") if codex else None)

    @classmethod
    def of_names(cls, names: Iterable[str], *, codex: bool) -> Self:
        """The list where upstream has none."""
        return cls([_made(name) for name in names], [] if codex else None, from_names=True)

    async def answer(self, lists: AllowLists) -> ListAnswer:
        """The list for a client. It is made in a thread, once for clients with the same allow-lists."""
        key = tuple(patterns.patterns for patterns in lists)
        found = self._answers.get(key)
        if found is None:
            found = await asyncio.to_thread(self._make, lists)
            kept = sum(len(answer.body) for answer in self._answers.values())
            if len(self._answers) >= _MOST_KEPT_ANSWERS or kept + len(found.body) > _MOST_KEPT_BYTES:
                self._answers.clear()
            self._answers[key] = found
        return found

    def find(self, name: str, lists: AllowLists) -> bytes | None:
        """The entry of one model, None when it is not listed or the client may not use it."""
        model = self._by_name.get(name) or self._named(lists).get(name)
        return model.entry if model is not None and _allowed(model, lists) else None

    def _make(self, lists: AllowLists) -> ListAnswer:
        data = [*self._data, *self._named(lists).values()]
        body = b'{"object":"list","data":%s' % _array(data, lists)
        if self._codex is not None:
            body += b',"models":%s' % _array(self._codex, lists)
        body += b"}"
        return ListAnswer(body, etag_of(body))

    def _named(self, lists: AllowLists) -> Mapping[str, ListedModel]:
        """The models that allow-lists name in full, where upstream has no list."""
        names = [name for patterns in lists for name in patterns.full_names] if self.from_names else ()
        return {name: _made(name) for name in names if name not in self._by_name}


def etag_of(body: bytes) -> str:
    """A strong entity tag."""
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'


def _entries(found: object, name_key: str) -> list[ListedModel]:
    """The entries of an array that have a name; all others are left out."""
    listed: list[ListedModel] = []
    for entry in found[:MOST_MODELS] if isinstance(found, list) else ():
        name = entry.get(name_key) if isinstance(entry, dict) else None
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH:
            try:
                listed.append(ListedModel(name, orjson.dumps(entry)))
            except orjson.JSONEncodeError:  # nested too deeply
                continue
    return listed


def _made(name: str) -> ListedModel:
    """An entry with the fields that OpenAI's SDKs expect. Nobody knows when the model was made."""
    vendor, slash, _ = name.partition("/")
    entry: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": vendor if slash else "upstream"}
    return ListedModel(name, orjson.dumps(entry))


def _allowed(model: ListedModel, lists: AllowLists) -> bool:
    return all(patterns.allows(model.name) for patterns in lists)


def _array(models: Iterable[ListedModel], lists: AllowLists) -> bytes:
    return b"[%s]" % b",".join(model.entry for model in models if _allowed(model, lists))
