"""Writes events as server-sent events, in a dialect's way or in one of the ways that break readers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.mock.call import MockCall
from app.mock.events import Event
from app.mock.faults import FaultSet
from app.mock.script import ScenarioScript

_BOM = b"\xef\xbb\xbf"
_PADDING = "q7ZkLm0pVdxX8hTnw3"


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes that are sent together. `number` counts events from 1, 0 is none; `tokens` are made while it is awaited."""

    data: bytes
    number: int = 0
    tokens: int = 0
    first_output: bool = False
    terminal: bool = False


class Framing:
    """The frames of one call's answer."""

    def __init__(self, call: MockCall, faults: FaultSet) -> None:
        self._call = call
        self._dialect = call.dialect
        self._faults = faults
        self._newline = "\r\n" if "crlf" in faults else "\r" if "cr-only" in faults else "\n"
        self._colon = ":" if "no-space" in faults else ": "
        options = call.body.get("stream_options")
        asked = options.get("include_obfuscation") if isinstance(options, dict) else None
        self._obfuscates = call.dialect.obfuscates and asked is not False

    def stream(self, script: ScenarioScript) -> Iterator[Frame]:
        """The frames of a stream, written one at a time."""
        if opening := self._opening():
            yield Frame(opening)
        last = max(number for number, event in enumerate(script.events) if self._payload(event) is not None)
        number, tokens, begun = 0, 0, False
        for place, event in enumerate(script.events):
            payload = self._payload(event)
            tokens += event.tokens
            if payload is None:
                continue
            number += 1
            first_output = not begun and event.type == "response.output_item.added"
            begun = begun or first_output
            data = self._write(payload, number, bare=place == last and "no-final-blank" in self._faults)
            yield Frame(data, number, tokens, first_output, event.terminal)
            tokens = 0
        if self._dialect.sentinel and "no-final-blank" not in self._faults:
            yield Frame(f"data{self._colon}[DONE]{self._newline * 2}".encode())

    def document(self, script: ScenarioScript) -> list[Frame]:
        """The answer as one JSON document, in two frames, so that what is said of events can be done to it too."""
        body = self._dialect.payload({"response": script.body}) or {}
        data = encode(body["response"])
        middle = len(data) // 2
        tokens = sum(event.tokens for event in script.events)
        finished = any(event.terminal for event in script.events)
        return [Frame(data[:middle], 1, tokens), Frame(data[middle:], 2, terminal=finished)]

    def comment(self) -> bytes:
        """What the dialect says while it has nothing to say; nothing in most."""
        return self._comment(self._dialect.comment) if self._dialect.comment else b""

    def _opening(self) -> bytes:
        blocks = [_BOM if "bom" in self._faults else b"", self.comment()]
        if "ids" in self._faults:
            blocks.append(f"retry{self._colon}3000{self._newline * 2}".encode())
        return b"".join(blocks)

    def _comment(self, text: str) -> bytes:
        return f":{self._colon[1:]}{text}{self._newline * 2}".encode()

    def _payload(self, event: Event) -> dict[str, Any] | None:
        payload = event.payload()
        if self._obfuscates and event.type.endswith(".delta"):
            payload["obfuscation"] = _PADDING[: 1 + event.sequence * 7 % len(_PADDING)]
        return self._dialect.payload(payload)

    def _write(self, payload: dict[str, Any], number: int, *, bare: bool) -> bytes:
        lines = []
        if "ids" in self._faults:
            lines.append(f"id{self._colon}{number - 1}")
        if self._dialect.named_events and payload.get("type"):
            lines.append(f"event{self._colon}{payload['type']}")
        indent = 2 if "multiline-data" in self._faults else None
        lines += [f"data{self._colon}{line}" for line in encode(payload, indent).decode().split("\n")]
        block = self._newline.join(lines) + self._newline * (1 if bare else 2)
        before = self._comment("keep-alive") if "comments" in self._faults else b""
        return before + block.encode()


def encode(value: object, indent: int | None = None) -> bytes:
    """Compact JSON in UTF-8. Lone surrogates, which JSON can carry and UTF-8 cannot, become question marks."""
    separators = (",", ": ") if indent else (",", ":")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return text.encode("utf-8", "replace")
