"""An answer: the items that the model made, their usage, and the response object with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.mock.call import Json, MockCall
from app.mock.ids import Ids
from app.mock.items import Item
from app.mock.usage import MockUsage

_SERVED_TIERS = {"auto": "default", "fast": "priority"}


@dataclass(frozen=True, slots=True)
class MockAnswer:
    """Times are whole seconds since 1970; `completed_at` is planned, not measured."""

    call: MockCall
    ids: Ids
    created_at: int
    completed_at: int
    items: Sequence[Item]
    usage: MockUsage
    incomplete_reason: str | None = None

    @property
    def status(self) -> str:
        """How it ends when nothing goes wrong."""
        return "incomplete" if self.incomplete_reason else "completed"

    def opening(self, status: str) -> Json:
        """The response object before there is any output."""
        return self._resource(status=status)

    def ending(self) -> Json:
        """The response object in the end."""
        return self.ended(self.status, self.usage)

    def ended(self, status: str, usage: MockUsage | None, error: Json | None = None) -> Json:
        """The response object of an end other than the planned one: without output when there is an error."""
        output = [] if error else [item.json() for item in self.items]
        weighed = self.call.dialect.usage_json(usage, self.call.cost_nanousd(usage)) if usage else None
        return self._resource(status=status, output=output, usage=weighed, error=error)

    def _resource(self, **changes: object) -> Json:
        """Every key that the Open Responses schema requires, what the caller sent echoed."""
        body, ended = self.call.body, changes["status"] not in ("in_progress", "queued")
        resource = {
            "id": self.ids.response,
            "object": "response",
            "created_at": self.created_at,
            "status": "",
            "background": self.call.background,
            "completed_at": self.completed_at if changes["status"] == "completed" else None,
            "error": None,
            "frequency_penalty": body.get("frequency_penalty") or 0.0,
            "incomplete_details": {"reason": self.incomplete_reason} if changes["status"] == "incomplete" else None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "max_tool_calls": body.get("max_tool_calls"),
            "model": self.call.model_served,
            "output": [],
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "presence_penalty": body.get("presence_penalty") or 0.0,
            "previous_response_id": body.get("previous_response_id"),
            "prompt_cache_key": body.get("prompt_cache_key"),
            "reasoning": _reasoning(body.get("reasoning")),
            "safety_identifier": body.get("safety_identifier"),
            "service_tier": _tier(body.get("service_tier"), ended=ended),
            "store": self.call.stored,
            "temperature": _or(body.get("temperature"), 1.0),
            "text": _text(body.get("text")),
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": _tools(body.get("tools")),
            "top_logprobs": body.get("top_logprobs") or 0,
            "top_p": _or(body.get("top_p"), 1.0),
            "truncation": body.get("truncation") or "disabled",
            "usage": None,
            "user": body.get("user"),
            "metadata": body.get("metadata") or {},
        }
        return resource | changes


def _or(value: object, default: float) -> object:
    return default if value is None else value


def _tier(asked: object, *, ended: bool) -> str:
    tier = asked if isinstance(asked, str) else "auto"
    return _SERVED_TIERS.get(tier, tier) if ended else tier


def _reasoning(asked: object) -> Json:
    return {"effort": None, "summary": None} | (asked if isinstance(asked, dict) else {})


def _text(asked: object) -> Json:
    return {"format": {"type": "text"}, "verbosity": "medium"} | (asked if isinstance(asked, dict) else {})


def _tools(asked: object) -> list[Any]:
    absent = {"description": None, "parameters": None, "strict": True}
    tools = asked if isinstance(asked, list) else []
    return [absent | tool if isinstance(tool, dict) and tool.get("type") == "function" else tool for tool in tools]
