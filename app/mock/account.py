"""The account routes in OpenRouter's form: models, the record of one call, the key, the credits."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.mock.booked_call import BookedCall
from app.mock.models import MODELS, MockModel
from app.mock.reception import Reception
from app.mock.refusals import MockRefusal
from app.mock.shapes import NANOUSD_PER_USD
from app.mock.state import MockState

Json = dict[str, Any]

_CREATED = 1_795_000_000
_CREDITS_USD = 100.0


class MockAccount:
    """The routes beside /responses."""

    def __init__(self, state: MockState) -> None:
        self._state = state
        self._reception = Reception(state)

    async def models(self, request: Request) -> Response:
        """The list; with `client_version` also the catalogue that Codex wants."""
        self._state.check_key(request.headers)
        if self._reception.dialect(request).openrouter:
            body: Json = {"data": [_openrouter_model(model) for model in MODELS]}
        else:
            body = {"object": "list", "data": [_openai_model(model) for model in MODELS]}
        if "client_version" in request.query_params:
            body["models"] = [_codex_model(model, place) for place, model in enumerate(MODELS)]
        return JSONResponse(body)

    async def generation(self, request: Request) -> Response:
        """The record of one call, `books_delay_seconds` after its end."""
        self._state.check_key(request.headers)
        identifier = request.query_params.get("id", "")
        entry = self._state.books.find(identifier)
        now = self._state.options.clock()
        delay = self._state.options.books_delay_seconds
        if entry is None or entry.finished_at is None or now < entry.finished_at + delay:
            raise MockRefusal(404, f"Generation {identifier} not found")
        return JSONResponse({"data": _generation(entry)})

    async def key(self, request: Request) -> Response:
        """What the key has used in all, and in this day, week (from Monday) and month in UTC.

        Unlike OpenRouter, the answer says when the records begin: those of a mock may begin with its start.
        """
        self._state.check_key(request.headers)
        self._state.check_accounts()
        now = datetime.fromtimestamp(self._state.options.clock(), UTC)
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        begins = {"daily": today, "weekly": today - timedelta(days=today.weekday()), "monthly": today.replace(day=1)}
        body = {"label": "mock", "limit": None, "limit_remaining": None, "limit_reset": None, "is_free_tier": False}
        spent = {"usage": self._used_usd(self._state.books)}
        for name, begin in begins.items():
            since = begin.timestamp()
            spent[f"usage_{name}"] = self._used_usd(e for e in self._state.books if e.created_at >= since)
        byok = {f"byok_{name}": 0 for name in spent}
        books_since = datetime.fromtimestamp(self._state.books.since, UTC).isoformat()
        return JSONResponse({"data": body | spent | byok | {"books_since": books_since}})

    async def credits(self, request: Request) -> Response:
        """The credits that are left."""
        self._state.check_key(request.headers)
        self._state.check_accounts()
        used = self._used_usd(self._state.books)
        return JSONResponse({"data": {"total_credits": _CREDITS_USD, "total_usage": used}})

    def _used_usd(self, entries: Iterable[BookedCall]) -> float:
        return sum(entry.cost_nanousd for entry in entries) / NANOUSD_PER_USD


def _generation(entry: BookedCall) -> Json:
    finished = entry.finished_at or entry.created_at
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.created_at))
    usd = entry.cost_nanousd / NANOUSD_PER_USD
    usage = entry.usage
    return {
        "id": entry.generation_id,
        "upstream_id": entry.id,
        "model": entry.model,
        "created_at": created,
        "streamed": entry.stream,
        "cancelled": entry.status in ("aborted", "cancelled"),
        "provider_name": "Mock",
        "total_cost": usd,
        "usage": usd,
        "upstream_inference_cost": None,
        "cache_discount": None,
        "is_byok": False,
        "tokens_prompt": usage.input_tokens,
        "tokens_completion": usage.output_tokens,
        "native_tokens_prompt": usage.input_tokens,
        "native_tokens_completion": usage.output_tokens,
        "native_tokens_reasoning": usage.reasoning_tokens,
        "native_tokens_cached": usage.cached_tokens,
        "finish_reason": {"completed": "stop", "incomplete": "length", "failed": "error"}.get(entry.status),
        "latency": int((finished - entry.created_at) * 1000),
        "generation_time": int((finished - entry.created_at) * 1000),
        "service_tier": None,
        "external_user": None,
        "session_id": None,
        "app_id": None,
    }


def _openrouter_model(model: MockModel) -> Json:
    per_token = {
        "prompt": model.input_nanousd,
        "completion": model.output_nanousd,
        "input_cache_read": model.cached_nanousd,
        "input_cache_write": model.cache_write_nanousd,
    }
    return {
        "id": model.name,
        "canonical_slug": model.name,
        "name": model.name,
        "created": _CREATED,
        "description": "A model of the mock upstream.",
        "context_length": model.context_tokens,
        "architecture": {"modality": "text->text", "input_modalities": ["text"], "output_modalities": ["text"]},
        "pricing": {name: _plain_usd(nanousd) for name, nanousd in per_token.items()},
        "top_provider": {"context_length": model.context_tokens, "is_moderated": False},
        "supported_parameters": ["max_tokens", "tools", *(["reasoning"] if model.reasons else [])],
    }


def _plain_usd(nanousd: int) -> str:
    return f"{nanousd / NANOUSD_PER_USD:.9f}".rstrip("0").rstrip(".")


def _openai_model(model: MockModel) -> Json:
    maker, _, name = model.name.partition("/")
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": maker}


def _codex_model(model: MockModel, place: int) -> Json:
    """The keys without which Codex does not read an entry."""
    return {
        "slug": model.name,
        "display_name": model.name,
        "description": "A model of the mock upstream.",
        "default_reasoning_level": "low",
        "supported_reasoning_levels": [{"effort": "low", "description": "Short thoughts"}],
        "shell_type": "shell_command",
        "visibility": "list",
        "supported_in_api": True,
        "priority": place,
        "base_instructions": "You are a coding agent.",
        "supports_reasoning_summaries": True,
        "support_verbosity": False,
        "apply_patch_tool_type": None,
        "truncation_policy": {"mode": "bytes", "limit": 10_000},
        "supports_parallel_tool_calls": True,
        "context_window": model.context_tokens,
        "experimental_supported_tools": [],
    }
