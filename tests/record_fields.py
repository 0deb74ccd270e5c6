"""The fields of a ledger record and their order, as the contract has them for `usage --by request --json`."""

TOKENS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
)

RECORD_FIELDS = [
    "request_id",
    "started_at",
    "finished_at",
    "client",
    "key_id",
    "upstream",
    "path",
    "method",
    "model_requested",
    "model_served",
    "stream",
    "http_status",
    "outcome",
    "usage_source",
    *TOKENS,
    "cost_usd",
    "cost_source",
    "response_id",
    "generation_id",
    "retry_count",
    "bytes_in",
    "bytes_out",
    "time_to_first_byte_ms",
    "duration_ms",
    "error_type",
]
