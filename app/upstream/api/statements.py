"""Upstream's statements: what an account used, by day and model. They need a management key, which no server has.

OpenRouter   GET /activity                         the last 30 completed UTC days
             GET /credits                          what the account has ever bought and used
OpenAI       GET /organization/usage/completions   tokens, by day and model
             GET /organization/costs               dollars, by day and line item ("gpt-5.5-2026-04-23, input")
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

from app.domain.money.amounts import parse_usd
from app.domain.money.reconciliation import Cell, Sheet, Sums, sheet_of
from app.upstream.api.client import Query, UpstreamApi, UpstreamQueryFailed

ACTIVITY_DAYS = 30
_BUCKETS_A_PAGE = 31
_MOST_PAGES = 1_000


@dataclass(slots=True, frozen=True)
class Credits:
    """The credits of an account since it was opened, in nano-dollars."""

    bought_nanousd: int
    used_nanousd: int


@dataclass(slots=True, frozen=True)
class AccountStatement:
    """Sums by day and model. `names` maps other names of a model to its name in `sheet`."""

    sheet: Sheet
    names: Mapping[str, str] = field(default_factory=dict)
    credits: Credits | None = None

    def has_day(self, day: str) -> bool:
        """Whether the statement has sums of a day."""
        return any(cell[0] == day for cell in self.sheet)


async def openrouter_statement(api: UpstreamApi, since: date, key_hash: str | None = None) -> AccountStatement:
    """OpenRouter's activity from `since` on, of one key or of the whole account. Raises UpstreamQueryFailed."""
    query: Query = {} if key_hash is None else {"api_key_hash": key_hash}
    data = (await api.fetch_fields("/activity", query)).get("data")
    if not isinstance(data, list):
        raise UpstreamQueryFailed("GET /activity: the answer has no data")
    if not all(isinstance(item, dict) and isinstance(item.get("date"), str) for item in data):
        raise UpstreamQueryFailed("GET /activity: the answer has an entry without a date")
    items = [item for item in data if item["date"][:10] >= since.isoformat()]
    names = {str(item["model_permaslug"]): str(item["model"]) for item in items if item.get("model_permaslug")}
    return AccountStatement(sheet_of(map(_activity_line, items)), names, await _credits(api))


async def _credits(api: UpstreamApi) -> Credits | None:
    """The credits; None if upstream does not tell them, since they are only shown."""
    try:
        data = (await api.fetch_fields("/credits")).get("data")
    except UpstreamQueryFailed:
        return None
    fields = data if isinstance(data, dict) else {}
    bought, used = parse_usd(fields.get("total_credits")), parse_usd(fields.get("total_usage"))
    return None if bought is None or used is None else Credits(bought, used)


def _activity_line(item: dict[str, Any]) -> tuple[Cell, Sums]:
    sums = Sums(
        requests=_count(item, "requests"),
        input_tokens=_count(item, "prompt_tokens"),
        output_tokens=_count(item, "completion_tokens"),
        cost_nanousd=_dollars(item.get("usage")) + _dollars(item.get("byok_usage_inference")),
    )
    return (str(item.get("date"))[:10], str(item.get("model"))), sums


async def openai_statement(api: UpstreamApi, since: date, project: str | None = None) -> AccountStatement:
    """OpenAI's usage and costs since a day, of a project or the organization. Raises UpstreamQueryFailed."""
    start = int(datetime.combine(since, time(), UTC).timestamp())
    query: dict[str, str | int] = {"start_time": start, "bucket_width": "1d", "limit": _BUCKETS_A_PAGE}
    if project is not None:
        query["project_ids"] = project
    lines: list[tuple[Cell, Sums]] = []
    async for day, result in _results(api, "/organization/usage/completions", {**query, "group_by": "model"}):
        into, out = _count(result, "input_tokens"), _count(result, "output_tokens")
        sums = Sums(_count(result, "num_model_requests"), into, out)
        lines.append(((day, str(result.get("model"))), sums))
    async for day, result in _results(api, "/organization/costs", {**query, "group_by": "line_item"}):
        model = str(result.get("line_item")).partition(",")[0]
        cost = _dollars(_fields(result.get("amount")).get("value"))
        lines.append(((day, model), Sums(cost_nanousd=cost)))
    return AccountStatement(sheet_of(lines))


async def _results(api: UpstreamApi, path: str, query: Query) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Each result of each daily bucket, page by page, with its day."""
    page: dict[str, str] = {}
    for _ in range(_MOST_PAGES):
        answer = await api.fetch_fields(path, {**query, **page})
        for bucket in map(_fields, answer.get("data") or ()):
            day = datetime.fromtimestamp(_count(bucket, "start_time"), UTC).date().isoformat()
            for result in bucket.get("results") or bucket.get("result") or ():
                yield day, _fields(result)
        following = answer.get("next_page")
        if not answer.get("has_more") or not isinstance(following, str):
            return
        page = {"page": following}
    raise UpstreamQueryFailed(f"GET {path}: there are too many pages")


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(item: Mapping[str, Any], name: str) -> int:
    """A whole number; null counts as 0. Raises UpstreamQueryFailed for anything else."""
    value = item.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise UpstreamQueryFailed(f"the statement's {name} is no number")
    return int(value)


def _dollars(value: object) -> int:
    """An amount in nano-dollars. Null is 0, and so is an amount below zero, which is a credit and no usage."""
    if value is None or (isinstance(value, int | float) and value < 0):
        return 0
    amount = parse_usd(value)
    if amount is None:
        raise UpstreamQueryFailed("the statement has an amount that is no number")
    return amount
