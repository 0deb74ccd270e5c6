"""What an account used, by day and model: OpenRouter's activity, OpenAI's usage and costs. All from the mock's books.

Unlike OpenRouter's, the activity has the day under way, too: a demonstration can be reconciled at once.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.mock.booked_call import BookedCall
from app.mock.refusals import MockRefusal
from app.mock.shapes import NANOUSD_PER_USD
from app.mock.state import MockState

Json = dict[str, Any]
Days = dict[tuple[str, str], Counter[str]]
Results = Callable[[str, Counter[str]], list[Json]]

_ACTIVITY_DAYS = 30
_DAY_SECONDS = 86_400
_DEFAULT_LIMIT = 7
_MOST_LIMIT = 180


class Statements:
    """The routes that want a management key; the mock's one key will do."""

    def __init__(self, state: MockState) -> None:
        self._state = state

    async def activity(self, request: Request) -> Response:
        """OpenRouter's, filtered by `date` and `api_key_hash`."""
        self._state.check_key(request.headers)
        self._state.check_accounts()
        wanted = request.query_params
        if not self._is_ours(wanted.get("api_key_hash")):
            return JSONResponse({"data": []})
        now = datetime.fromtimestamp(self._state.options.clock(), UTC)
        oldest = (now - timedelta(days=_ACTIVITY_DAYS)).date().isoformat()
        found = [
            _activity(day, model, sums)
            for (day, model), sums in sorted(self._days().items(), reverse=True)
            if wanted.get("date", day) == day >= oldest
        ]
        return JSONResponse({"data": found})

    async def usage(self, request: Request) -> Response:
        """OpenAI's token counts, in daily buckets, page by page."""
        return self._page(request, "model", _usage_results)

    async def costs(self, request: Request) -> Response:
        """OpenAI's dollars, in daily buckets, page by page."""
        return self._page(request, "line_item", _cost_results)

    def _page(self, request: Request, group: str, results: Results) -> Response:
        self._state.check_key(request.headers)
        self._state.check_accounts()
        query = request.query_params
        if query.get("group_by", query.get("group_by[]")) != group:
            raise MockRefusal(400, f"The mock groups by {group} only.", param="group_by")
        try:
            start = int(query.get("page") or query["start_time"])
            end = int(query.get("end_time", self._state.options.clock() + 1))
            limit = min(max(1, int(query.get("limit", _DEFAULT_LIMIT))), _MOST_LIMIT)
        except (KeyError, ValueError):
            raise MockRefusal(400, "Missing required parameter: 'start_time'.", param="start_time") from None
        starts = list(range(start - start % _DAY_SECONDS, end, _DAY_SECONDS))
        more = starts[limit : limit + 1]
        days = self._days()
        data = [_bucket(begin, days, results) for begin in starts[:limit]]
        return JSONResponse(
            {"object": "page", "data": data, "has_more": bool(more), "next_page": str(more[0]) if more else None}
        )

    def _days(self) -> Days:
        days: Days = {}
        for entry in self._ended():
            usage = entry.usage
            days.setdefault((_day_of(entry.created_at), entry.model), Counter()).update(
                requests=1,
                input=usage.input_tokens,
                cached=usage.cached_tokens,
                output=usage.output_tokens,
                reasoning=usage.reasoning_tokens,
                cost=entry.cost_nanousd,
            )
        return days

    def _ended(self) -> Iterator[BookedCall]:
        return (entry for entry in self._state.books if entry.finished_at is not None)

    def _is_ours(self, key_hash: str | None) -> bool:
        key = self._state.options.key
        return key_hash is None or key is None or key_hash == hashlib.sha256(key.encode()).hexdigest()


def _day_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _bucket(begin: int, days: Days, results: Results) -> Json:
    day = _day_of(begin)
    found = [result for cell, sums in sorted(days.items()) if cell[0] == day for result in results(cell[1], sums)]
    return {"object": "bucket", "start_time": begin, "end_time": begin + _DAY_SECONDS, "results": found}


def _activity(day: str, model: str, sums: Counter[str]) -> Json:
    return {
        "date": day,
        "model": model,
        "model_permaslug": model,
        "endpoint_id": "00000000-0000-4000-8000-000000000000",
        "provider_name": "Mock",
        "usage": sums["cost"] / NANOUSD_PER_USD,
        "byok_usage_inference": 0,
        "requests": sums["requests"],
        "prompt_tokens": sums["input"],
        "completion_tokens": sums["output"],
        "reasoning_tokens": sums["reasoning"],
    }


def _usage_results(model: str, sums: Counter[str]) -> list[Json]:
    return [
        {
            "object": "organization.usage.completions.result",
            "input_tokens": sums["input"],
            "input_cached_tokens": sums["cached"],
            "output_tokens": sums["output"],
            "num_model_requests": sums["requests"],
            "project_id": None,
            "user_id": None,
            "api_key_id": None,
            "model": model,
            "batch": None,
        }
    ]


def _cost_results(model: str, sums: Counter[str]) -> list[Json]:
    """One line item a model; OpenAI has more, one for each kind of token."""
    return [
        {
            "object": "organization.costs.result",
            "amount": {"value": sums["cost"] / NANOUSD_PER_USD, "currency": "usd"},
            "line_item": f"{model}, tokens",
            "project_id": None,
        }
    ]
