"""The exchange line: one for every exchange that was settled, written once it is durable.

Called in the ledger's writer thread with all records of a commit, so it must be cheap: the lines are made without
structlog, and go out as one write. JSON lines carry the contract's fields; console lines are for reading along.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import fields

import orjson

from app.domain.identity.kept_ids import LONGEST_ID
from app.domain.money.amounts import NANOUSD_PER_USD, format_usd
from app.domain.record_json import record_fields, rfc3339
from app.domain.records import CostSource, Outcome, Record, UsageSource
from app.telemetry.labels import SERVER_FAULTS
from app.telemetry.line_budget import LineBudget
from app.telemetry.lines import Cleaner
from app.telemetry.logging import LogForm, LogOutput

LONGEST_TEXT = 256
"""Characters of any one field: names come from callers and providers. Upstream's ids are shown as they are kept."""

_LONGEST_PLAIN = 600
_LONGEST_JSON = 64 * 1024
_LONGEST = {
    **dict.fromkeys(("response_id", "generation_id", "upstream_request_id"), LONGEST_ID),
    **dict.fromkeys(("tries", "tags", "phases_ms"), _LONGEST_JSON),  # cut, they would be no JSON
}


class ExchangeLog:
    """Writes one line a record: a warning where we answered with a 5xx of ours, else info. Open calls are left out.

    Of calls that were refused, only so many of a client and reason are logged as `LineBudget` lets through.
    """

    def __init__(self, output: LogOutput, budget: LineBudget | None = None) -> None:
        self._budget = budget or LineBudget()
        self._hears_info = output.hears(logging.INFO)
        self._hears_warnings = output.hears(logging.WARNING)
        self._line: Callable[[Record], str] = json_line if output.form is LogForm.JSON else console_line
        self._suspects = output.redact.suspects
        self._clean = Cleaner(output.redact).text
        self._write = output.sink.write

    def __call__(self, records: Iterable[Record]) -> None:
        """Log the records of one commit, in their order."""
        if not self._hears_warnings:
            return
        lines = [self._safe_line(record) for record in records if self._wants(record)]
        if lines:
            self._write("".join(lines))

    def _wants(self, record: Record) -> bool:
        if record.outcome is Outcome.IN_PROGRESS or not (self._hears_info or is_our_fault(record)):
            return False
        refused = record.outcome is Outcome.REJECTED
        return not refused or self._budget.take((record.client, record.error_type)) is not None

    def _safe_line(self, record: Record) -> str:
        return self._line(self._cleaned(record) if self._doubtful(record) else record)

    def _doubtful(self, record: Record) -> bool:
        """Whether cleaning could change the record. Asked of all its text at once: the answer is nearly always no."""
        text = (
            f"{record.request_id} {record.client} {record.key_id} {record.upstream} {record.path} {record.method} "
            f"{record.model_requested} {record.model_served} {record.response_id} {record.generation_id} "
            f"{record.error_type} {record.error_detail} {record.upstream_request_id} {record.upstream_key} "
            f"{record.session} {record.program} {record.tags} {record.tries} {record.cost_detail}"
        )
        return len(text) > _LONGEST_PLAIN or not text.isprintable() or self._suspects(text)

    def _cleaned(self, record: Record) -> Record:
        """A copy to show. Fields are cleaned, not lines: blotting something out of finished JSON could break it."""
        cleaned = copy.copy(record)
        for field in fields(record):
            value = getattr(record, field.name)
            if type(value) is str:
                setattr(cleaned, field.name, self._clean(value, _LONGEST.get(field.name, LONGEST_TEXT)))
        return cleaned


def is_our_fault(record: Record) -> bool:
    """Whether the call was answered with a 5xx of ours: somebody should look at why."""
    return record.http_status is not None and record.http_status >= 500 and record.error_type in SERVER_FAULTS


def json_line(record: Record) -> str:
    """`{"event":"exchange",...}` with the contract's fields, stamped with the time the exchange ended."""
    public = record_fields(record)
    ended = public["finished_at"] or public["started_at"]
    level = "warning" if is_our_fault(record) else "info"
    line = {"time": ended, "level": level, "event": "exchange", **public}
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, or an integer beyond 64 bits
        return json.dumps(line) + "\n"


def console_line(record: Record) -> str:
    """One short line; `~` marks an estimate, `?` what is unknown. Why a call failed comes last."""
    ended = record.started_at if record.finished_at is None else record.finished_at
    parts = [
        rfc3339(ended)[11:19],
        record.client,
        record.model_served or record.model_requested or record.path,
        record.outcome.value,
        "-" if record.http_status is None else str(record.http_status),
        _duration(record.duration_ms),
    ]
    if record.time_to_first_byte_ms is not None:
        parts.append(f"ttfb {_duration(record.time_to_first_byte_ms)}")
    parts += (_tokens(record), _cost(record))
    if record.error_type is not None:
        parts.append(record.error_type)
    parts.append(record.request_id)
    if record.error_detail is not None:
        parts.append(record.error_detail)
    if is_our_fault(record):
        parts.insert(1, "warning")
    return " ".join(parts) + "\n"


def _duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "?"
    if milliseconds < 10:
        return f"{milliseconds:.1f}ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f}ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f}s" if seconds < 59.95 else f"{round(seconds) // 60}m{round(seconds) % 60:02d}s"


def _tokens(record: Record) -> str:
    if record.input_tokens is None and record.output_tokens is None:
        return "tokens ?"
    about = "~" if record.usage_source is UsageSource.ESTIMATED else ""
    cached = f" ({record.cached_input_tokens:,} cached)" if record.cached_input_tokens else ""
    return f"in {about}{_count(record.input_tokens)}{cached} out {about}{_count(record.output_tokens)}"


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else f"{tokens:,}"


def _cost(record: Record) -> str:
    cost = record.cost_nanousd
    if cost is None:
        return "$?"
    about = "~" if record.cost_source is CostSource.ESTIMATED else ""
    if cost < NANOUSD_PER_USD // 1000:  # a tenth of a cent: to the last digit, else four decimals say enough
        return f"{about}${format_usd(cost)}"
    dollars, tenths = divmod(round(cost, -5) // 100_000, 10_000)
    return f"{about}${dollars}.{tenths:04d}"
