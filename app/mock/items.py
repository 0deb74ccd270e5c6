"""What an answer is made of. Each item knows its JSON, its events and how it looks when cut short."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.mock.events import Event

Json = dict[str, Any]

_DELTA_TOKENS = (1, 2, 1, 1, 3)  # a model's tokens do not arrive one by one


def _deltas(pieces: Sequence[str]) -> Iterator[tuple[str, int]]:
    start = 0
    for size in itertools.cycle(_DELTA_TOKENS):
        taken = pieces[start : start + size]
        if not taken:
            return
        yield "".join(taken), len(taken)
        start += size


@dataclass(frozen=True, slots=True)
class Item(ABC):
    """One output item. `cut()` gives the same item with fewer tokens, marked as incomplete."""

    id: str
    complete: bool = True

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Output tokens that it costs."""

    @abstractmethod
    def cut(self, tokens: int) -> "Item":
        """The item as far as so many tokens go."""

    @abstractmethod
    def json(self) -> Json:
        """As in `output`."""

    @abstractmethod
    def events(self, index: int) -> Iterator[Event]:
        """As in a stream, `index` being its place in `output`."""

    @property
    def status(self) -> str:
        """Of the item in the end."""
        return "completed" if self.complete else "incomplete"

    def _added(self, index: int, item: Json) -> Event:
        return Event("response.output_item.added", {"output_index": index, "item": item})

    def _done(self, index: int, tokens: int = 0) -> Event:
        return Event("response.output_item.done", {"output_index": index, "item": self.json()}, tokens)


@dataclass(frozen=True, slots=True)
class Thought(Item):
    """Reasoning: opaque, and summarised when the caller wants that."""

    made: int = 0
    summary: tuple[str, ...] = ()
    encrypted: str = ""

    @property
    def tokens(self) -> int:
        """Reasoning tokens; a summary is free."""
        return self.made

    def cut(self, tokens: int) -> "Thought":
        """A shorter thought has no summary."""
        return replace(self, made=tokens, summary=(), complete=False)

    def json(self) -> Json:
        """Without encrypted_content when there is none."""
        parts = [{"type": "summary_text", "text": "".join(self.summary)}] if self.summary else []
        item: Json = {"id": self.id, "type": "reasoning", "summary": parts}
        return {**item, "encrypted_content": self.encrypted} if self.encrypted else item

    def events(self, index: int) -> Iterator[Event]:
        """The tokens are made silently; the summary follows."""
        yield self._added(index, {**self.json(), "summary": []})
        if self.summary:
            yield from self._summary_events({"item_id": self.id, "output_index": index, "summary_index": 0})
            yield self._done(index)
        else:
            yield self._done(index, self.made)

    def _summary_events(self, place: Json) -> Iterator[Event]:
        kind, text = "response.reasoning_summary_", "".join(self.summary)
        yield Event(kind + "part.added", {**place, "part": {"type": "summary_text", "text": ""}}, self.made)
        for delta, _ in _deltas(self.summary):
            yield Event(kind + "text.delta", {**place, "delta": delta})
        yield Event(kind + "text.done", {**place, "text": text})
        yield Event(kind + "part.done", {**place, "part": {"type": "summary_text", "text": text}})


@dataclass(frozen=True, slots=True)
class ToolCall(Item):
    """A function call."""

    call_id: str = ""
    name: str = ""
    pieces: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Of the arguments, and one for the name."""
        return len(self.pieces) + 1

    def cut(self, tokens: int) -> "ToolCall":
        """With arguments that are no longer JSON."""
        return replace(self, pieces=self.pieces[: max(0, tokens - 1)], complete=False)

    def json(self) -> Json:
        """As the caller sends it back later."""
        return self._json("".join(self.pieces), self.status)

    def _json(self, arguments: str, status: str) -> Json:
        call = {"call_id": self.call_id, "name": self.name, "arguments": arguments}
        return {"id": self.id, "type": "function_call", "status": status, **call}

    def events(self, index: int) -> Iterator[Event]:
        """Added, argument deltas, done, done."""
        place = {"item_id": self.id, "output_index": index}
        kind = "response.function_call_arguments."
        yield replace(self._added(index, self._json("", "in_progress")), tokens=1)
        for delta, tokens in _deltas(self.pieces):
            yield Event(kind + "delta", {**place, "delta": delta}, tokens)
        yield Event(kind + "done", {**place, "name": self.name, "arguments": "".join(self.pieces)})
        yield self._done(index)


@dataclass(frozen=True, slots=True)
class Message(Item):
    """Text."""

    pieces: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Of the text."""
        return len(self.pieces)

    def cut(self, tokens: int) -> "Message":
        """The beginning of the text."""
        return replace(self, pieces=self.pieces[:tokens], complete=False)

    def _part(self, text: str) -> Json:
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}

    def json(self) -> Json:
        """With its one part."""
        return self._json([self._part("".join(self.pieces))], self.status)

    def _json(self, content: list[Json], status: str) -> Json:
        phase = {"phase": "final_answer", "role": "assistant"}
        return {"id": self.id, "type": "message", "status": status, "content": content, **phase}

    def events(self, index: int) -> Iterator[Event]:
        """Item added, part added, deltas, text done, part done, item done."""
        place = {"item_id": self.id, "output_index": index, "content_index": 0}
        text = "".join(self.pieces)
        yield self._added(index, self._json([], "in_progress"))
        yield Event("response.content_part.added", {**place, "part": self._part("")})
        for delta, tokens in _deltas(self.pieces):
            yield Event("response.output_text.delta", {**place, "delta": delta, "logprobs": []}, tokens)
        yield Event("response.output_text.done", {**place, "text": text, "logprobs": []})
        yield Event("response.content_part.done", {**place, "part": self._part(text)})
        yield self._done(index)


def cut_to(items: Sequence[Item], tokens: int) -> list[Item]:
    """As many of the items as so many tokens make, the last one cut short if it must be."""
    kept: list[Item] = []
    for item in items:
        if item.tokens <= tokens:
            kept.append(item)
            tokens -= item.tokens
            continue
        return [*kept, item.cut(tokens)] if tokens > 0 else kept
    return kept
