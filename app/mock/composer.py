"""Makes up the answer to a call: thoughts, tool calls or text, all from one random source."""

import base64
import json
from dataclasses import dataclass
from random import Random

from app.mock import texts
from app.mock.call import Json, MockCall
from app.mock.ids import random_id
from app.mock.items import Item, Message, Thought, ToolCall
from app.mock.models import find_model
from app.mock.schemas import example

_REASONING_TOKENS = {"none": 0, "minimal": 16, "low": 32, "medium": 96, "high": 256, "xhigh": 512, "max": 512}
_SUMMARY = "**Weighing the question**\n\nThe user asks; I look at the load — axle by axle — and answer."
_SHORTEST_TOOL_WORD = 4
_MOST_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class Composer:
    """Composes the items of one call."""

    call: MockCall
    rng: Random
    echo_key: bool = False

    def compose(self) -> list[Item]:
        """A thought if the model thinks, then tool calls if the question asks for them, else a message."""
        return [*self._thoughts(), *(self._tool_calls() or [self._message()])]

    def _thoughts(self) -> list[Item]:
        asked = self.call.body.get("reasoning")
        wishes = asked if isinstance(asked, dict) else {}
        effort = wishes.get("effort")
        if effort is None and not wishes and not find_model(self.call.model_served).reasons:
            return []
        most = _REASONING_TOKENS.get(str(effort), _REASONING_TOKENS["medium"] if effort else _REASONING_TOKENS["low"])
        if most == 0:
            return []
        tokens = self.rng.randint(most // 2, most)
        summary = tuple(texts.tokenise(_SUMMARY)) if wishes.get("summary") else ()
        sealed = "reasoning.encrypted_content" in (self.call.body.get("include") or ())
        secret = base64.b64encode(self.rng.randbytes(4 * tokens)).decode() if sealed else ""
        return [Thought(random_id("rs", self.rng), made=tokens, summary=summary, encrypted=secret)]

    def _tool_calls(self) -> list[Item]:
        wanted = self._wanted_tools()
        if self.call.body.get("parallel_tool_calls") is False:
            wanted = wanted[:1]
        return [self._tool_call(tool) for tool in wanted]

    def _wanted_tools(self) -> list[Json]:
        choice, tools = self.call.body.get("tool_choice", "auto"), self.call.tools
        if choice == "none" or not tools:
            return []
        if isinstance(choice, dict) and choice.get("name"):
            return [tool for tool in tools if tool["name"] == choice["name"]]
        named = [tool for tool in tools if self._asks_for(tool["name"])]
        return named or (tools[:1] if choice == "required" else [])

    def _asks_for(self, tool_name: str) -> bool:
        """The simple rule: the question has a word of the tool's name in it (`weather` of `get_weather`)."""
        question = self.call.question.lower()
        words = [word for word in tool_name.lower().replace("-", "_").split("_") if len(word) >= _SHORTEST_TOOL_WORD]
        return any(word in question for word in words or [tool_name.lower()]) if question else False

    def _tool_call(self, tool: Json) -> ToolCall:
        schema = tool.get("parameters") or {"type": "object", "properties": {}}
        arguments = json.dumps(example(schema, self.call.question), ensure_ascii=False)
        pieces = tuple(texts.tokenise(arguments))
        ids = random_id("fc", self.rng), random_id("call", self.rng)
        return ToolCall(ids[0], call_id=ids[1], name=tool["name"], pieces=pieces)

    def _message(self) -> Message:
        return Message(random_id("msg", self.rng), pieces=tuple(self._pieces()))

    def _pieces(self) -> list[str]:
        if (wanted := _count(self.call.metadata.get("mock_tokens"))) is not None:
            return texts.talk(wanted, self.rng)
        if self.echo_key:
            return texts.tokenise(f"You called me with {self.call.key} and I should not have said so.")
        text = self.call.body.get("text")
        wish = text.get("format") if isinstance(text, dict) else None
        if isinstance(wish, dict) and wish.get("type") == "json_schema":
            return texts.tokenise(json.dumps(example(wish.get("schema"), self.call.question), ensure_ascii=False))
        if isinstance(wish, dict) and wish.get("type") == "json_object":
            return texts.tokenise(json.dumps({"answer": texts.reply(self.call.question, self.rng)}, ensure_ascii=False))
        return texts.tokenise(texts.reply(self.call.question, self.rng))


def _count(value: object) -> int | None:
    """Metadata values are strings; numbers are taken too."""
    text = str(value)
    return min(int(text), _MOST_TOKENS) if text.isascii() and text.isdigit() else None
