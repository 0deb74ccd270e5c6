"""Looks a call up in upstream's usage records after its end.

OpenRouter has `GET /generation?id=`, some seconds later. Others that send an `X-Generation-Id` are asked in the same
way; an upstream without the route answers 404. For OpenAI's background responses, `GET /responses/{id}` has the usage
once they are over.
"""

from typing import Any
from urllib.parse import quote

from app.domain.answer.usage import Usage, read_usage, with_provider_bill
from app.domain.identity.kept_ids import is_digest
from app.domain.money.amounts import parse_usd
from app.domain.records import Record
from app.gateway.ports import StillRunning, UpstreamUsage, UsageNotKept
from app.upstream.api.client import ApiDocument, UpstreamApi, UpstreamQueryFailed

_NO_ROUTE = frozenset((404, 405, 501))


class UpstreamUsageLookup:
    """The gateway's UsageLookup; `api` has the server's key."""

    def __init__(self, api: UpstreamApi) -> None:
        self._api = api

    async def look_up(self, record: Record) -> UpstreamUsage | None:
        """A missing route raises UsageNotKept; any other answer without a result raises UpstreamQueryFailed.

        A call whose id was stored only as a digest has no usage.
        """
        if is_digest(record.generation_id or record.response_id or ""):
            return UpstreamUsage(None)
        if record.generation_id is None and record.response_id is not None:
            return await self._response(record.response_id)
        document = await self._api.fetch("/generation", {"id": record.generation_id or ""})
        if document.status == 200:
            return _entry(document)
        if document.status == 404 and isinstance(document.fields.get("error"), dict):
            return None
        if document.status in _NO_ROUTE:
            raise UsageNotKept(f"GET /generation: HTTP {document.status}")
        raise UpstreamQueryFailed(f"GET /generation: upstream answered HTTP {document.status}", document.status)

    async def _response(self, response_id: str) -> UpstreamUsage | None:
        """A missing route only means that this call has no usage: an upstream that ignores `background` lacks it."""
        status, found = await self._api.fetch_reading("/responses/" + quote(response_id, safe=""))
        if status == 404 and found.failed:
            return None
        if status in _NO_ROUTE:
            return UpstreamUsage(None)
        if status != 200 or found.response_id != response_id:
            raise UpstreamQueryFailed(
                f"GET /responses/{{id}}: upstream answered HTTP {status}, not the response", status
            )
        if found.status is None:
            raise StillRunning
        usage = found.usage
        if usage is not None and (usage.input_tokens is None or usage.output_tokens is None):
            raise UpstreamQueryFailed("GET /responses/{id}: the usage has no counts that could be read", status)
        return UpstreamUsage(usage, found.model, found.extras)


def _entry(document: ApiDocument) -> UpstreamUsage:
    data = document.fields.get("data")
    if not isinstance(data, dict):
        raise UpstreamQueryFailed("GET /generation: the answer has no data", document.status)
    model = data.get("model")
    return UpstreamUsage(_usage(data), model if isinstance(model, str) and model else None)


def _usage(data: dict[str, Any]) -> Usage:
    """The provider's own ("native") counts, which are billed; `tokens_*` are counts by OpenRouter's tokenizer.

    A null count is 0: the call broke off before there were any such tokens.
    """
    counted = read_usage(
        {
            "input_tokens": _count(data, "native_tokens_prompt", "tokens_prompt"),
            "output_tokens": _count(data, "native_tokens_completion", "tokens_completion"),
            "input_tokens_details": {"cached_tokens": _count(data, "native_tokens_cached")},
            "output_tokens_details": {"reasoning_tokens": _count(data, "native_tokens_reasoning")},
        }
    )
    cost = parse_usd(data.get("total_cost"))
    if cost is None:
        cost = parse_usd(data.get("usage"))
    if data.get("is_byok") is True:
        cost = with_provider_bill(cost, data.get("upstream_inference_cost"))
    if counted is None or counted.input_tokens is None or counted.output_tokens is None:
        raise UpstreamQueryFailed("GET /generation: the entry has no counts that could be read")
    return Usage(
        input_tokens=counted.input_tokens,
        cached_input_tokens=counted.cached_input_tokens,
        output_tokens=counted.output_tokens,
        reasoning_tokens=counted.reasoning_tokens,
        total_tokens=counted.input_tokens + counted.output_tokens,
        reported_cost_nanousd=cost,
    )


def _count(data: dict[str, Any], *names: str) -> object:
    """The first of these fields that is not null; 0 if all are null; None if there is none of them."""
    there = [data[name] for name in names if name in data]
    known = [value for value in there if value is not None]
    return known[0] if known else (0 if there else None)
