"""One call as the mock understands it. Unknown fields are ignored."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.mock.dialects import DIALECTS, Dialect
from app.mock.models import find_model
from app.mock.refusals import MockRefusal
from app.mock.usage import MockUsage

Json = dict[str, Any]

_MODEL_PREFIX = "mock/"
_HAS_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_SNAPSHOT_DATE = "-2026-04-23"
_IMAGE_PROMPT = "i" * 340  # 85 tokens, as for a small picture


def read_body(raw: bytes) -> Json:
    """The JSON object of a request. Raises Refusal (400)."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise MockRefusal(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise MockRefusal(400, "The JSON body of the request must be an object.")
    return body


def pick_dialect(headers: Mapping[str, str], body: Json, default: str) -> Dialect:
    """By the header x-mock-dialect, by the model (`mock/<dialect>` or `mock/<dialect>/<model>`), or the default."""
    named = headers.get("x-mock-dialect")
    if named is not None:
        if named not in DIALECTS:
            raise MockRefusal(400, f"x-mock-dialect: there is no dialect {named!r}; there are {', '.join(DIALECTS)}")
        return DIALECTS[named]
    model = body.get("model")
    if isinstance(model, str) and model.startswith(_MODEL_PREFIX):
        prefix = model.removeprefix(_MODEL_PREFIX).partition("/")[0]
        return DIALECTS.get(prefix, DIALECTS[default])
    return DIALECTS[default]


@dataclass(frozen=True)
class MockCall:
    """A create, compact or count request. Raises Refusal (400) when made without what every dialect needs."""

    body: Json
    dialect: Dialect
    key: str | None = None  # the key the caller bore
    history: str = ""  # prompt and answer of previous_response_id

    def __post_init__(self) -> None:
        model = self.body.get("model")
        if not isinstance(model, str | None) or (model is None and not self.dialect.openrouter):
            raise MockRefusal(
                400, "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
            )
        if not isinstance(self.body.get("input", ""), str | list):
            raise MockRefusal(400, "Invalid type for 'input'.", param="input", code="invalid_type")

    @cached_property
    def model(self) -> str:
        """As asked for."""
        return self.body.get("model") or "openrouter/auto"

    @cached_property
    def model_served(self) -> str:
        """As answered: without `mock/<dialect>/`, and in some dialects as a dated snapshot."""
        name = self.model
        if name.startswith(_MODEL_PREFIX) and name.count("/") > 1:
            name = name.split("/", 2)[2]
        if self.dialect.snapshots and not name.startswith(_MODEL_PREFIX):
            name = name.rpartition("/")[2]
            name = name if _HAS_DATE.search(name) else name + _SNAPSHOT_DATE
        return name

    @cached_property
    def stream(self) -> bool:
        """Whether the answer is a stream."""
        return self.body.get("stream") is True

    @cached_property
    def background(self) -> bool:
        """Whether the answer is made without a caller waiting for it."""
        return self.body.get("background") is True

    @cached_property
    def stored(self) -> bool:
        """Whether the answer can be asked for again."""
        return self.body.get("store", not self.dialect.stateless) is True

    @cached_property
    def metadata(self) -> Json:
        """What the caller noted; steers the mock by `mock_fault` and `mock_tokens`."""
        return _object(self.body.get("metadata"))

    @cached_property
    def items(self) -> list[Json]:
        """The input as items."""
        given = self.body.get("input", "")
        if isinstance(given, str):
            return [{"type": "message", "role": "user", "content": given}]
        return [item for item in given if isinstance(item, dict)]

    @cached_property
    def tools(self) -> list[Json]:
        """The function tools."""
        tools = self.body.get("tools")
        named = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
        return [tool for tool in named if tool.get("type") == "function" and isinstance(tool.get("name"), str)]

    @cached_property
    def question(self) -> str:
        """The text of the last item, when it is the user's; else nothing."""
        last = self.items[-1] if self.items else {}
        return item_text(last) if last.get("role") == "user" else ""

    @cached_property
    def prompt(self) -> str:
        """Everything the model reads, as one text."""
        parts = [self.history] if self.history else []
        if instructions := self.body.get("instructions"):
            parts.append(str(instructions))
        if tools := self.body.get("tools"):
            parts.append(json.dumps(tools, ensure_ascii=False))
        parts += [f"{item.get('role', item.get('type', ''))}: {item_text(item)}" for item in self.items]
        return "\n".join(parts)

    def cost_nanousd(self, usage: MockUsage) -> int:
        """What the usage costs at the served model's price."""
        return find_model(self.model_served).cost_nanousd(usage)

    def number(self, name: str) -> int | None:
        """A positive whole number of the body, or None."""
        value = self.body.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def item_text(item: Json) -> str:
    """The text of an input or output item."""
    content = item.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content)
    return "".join(str(item[name]) for name in ("name", "arguments", "output", "encrypted_content") if item.get(name))


def _part_text(part: object) -> str:
    fields = _object(part)
    if fields.get("type") == "input_image":
        return _IMAGE_PROMPT
    return str(fields.get("text") or fields.get("file_data") or "")


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}
