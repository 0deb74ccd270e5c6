"""A record as people and programs read it: the field names of the ledger's contract, in their order.

The log line, `usage --by request --json` and the admin API all show a record through `record_fields`.
"""

import json
from functools import lru_cache
from time import gmtime

from app.domain.money.amounts import format_usd
from app.domain.records import Record

MICROSECONDS = 1_000_000


def rfc3339(microseconds: int) -> str:
    """RFC 3339 in UTC with all six digits, from microseconds since 1970: `2026-11-22T20:58:43.456789Z`."""
    seconds, fraction = divmod(microseconds, MICROSECONDS)
    return f"{_second(seconds)}.{fraction:06d}Z"


@lru_cache(maxsize=16)  # neighbouring records share their seconds, and the calendar is the most expensive part
def _second(seconds: int) -> str:
    year, month, day, hour, minute, second = gmtime(seconds)[:6]
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"


def record_fields(record: Record) -> dict[str, object]:
    """The record's public fields: text, whole numbers, booleans, milliseconds to the microsecond; None means unknown.

    `cost_usd` is decimal text, exact to the nano-dollar.
    """
    cost, cost_source = record.cost_nanousd, record.cost_source
    return {
        "request_id": record.request_id,
        "started_at": rfc3339(record.started_at),
        "finished_at": None if record.finished_at is None else rfc3339(record.finished_at),
        "client": record.client,
        "key_id": record.key_id,
        "upstream": record.upstream,
        "upstream_key": record.upstream_key,
        "transport": record.transport,
        "path": record.path,
        "method": record.method,
        "model_requested": record.model_requested,
        "model_served": record.model_served,
        "stream": record.stream,
        "http_status": record.http_status,
        "outcome": str(record.outcome),
        "usage_source": str(record.usage_source),
        "input_tokens": record.input_tokens,
        "cached_input_tokens": record.cached_input_tokens,
        "cache_write_tokens": record.cache_write_tokens,
        "output_tokens": record.output_tokens,
        "reasoning_tokens": record.reasoning_tokens,
        "total_tokens": record.total_tokens,
        "cost_usd": None if cost is None else format_usd(cost),
        "cost_source": None if cost_source is None else str(cost_source),
        "response_id": record.response_id,
        "generation_id": record.generation_id,
        "retry_count": record.retry_count,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "time_to_first_byte_ms": _milliseconds(record.time_to_first_byte_ms),
        "duration_ms": _milliseconds(record.duration_ms),
        "error_type": record.error_type,
        "error_detail": record.error_detail,
        "cost_detail": record.cost_detail,
        "upstream_request_id": record.upstream_request_id,
        "tries": _parsed(record.tries),
        "session": record.session,
        "program": record.program,
        "tags": _parsed(record.tags),
        "phases_ms": _parsed(record.phases_ms),
        "demo": record.demo,
    }


def _parsed(text: str | None) -> object:
    return None if text is None else json.loads(text)


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


RECORD_FIELDS = tuple(record_fields(Record("", 0, "", "", "", "")))
"""The names of the fields, in order."""
