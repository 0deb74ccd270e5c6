"""The names that programs outside this repository rely on. A change here breaks somebody.

PLANNED names are promised and do not exist yet. The test fails when one of them exists: it moves up then.
The fields of a record are in `record_fields.py`.
"""

COMMANDS = """
audit; clients delete; clients list; clients set; clients show; config check; config example; config show; connect;
db backup; db check; db current; db upgrade; doctor; keys create; keys list; keys revoke; keys rotate; limits settle;
limits unsettled; mock-upstream; prices; reconcile; run; serve; usage; version
"""
PLANNED_COMMANDS = "config reload; export; top; upstreams"

VARIABLES = """
LOG_LEVEL; OPENROUTER_API_KEY; OPENROUTER_API_KEY_FILE; WEIGHBRIDGE_ADMIN_KEY; WEIGHBRIDGE_ADMIN_KEY_FILE;
WEIGHBRIDGE_ALLOWED_HOSTS; WEIGHBRIDGE_CONNECT_TIMEOUT; WEIGHBRIDGE_DATABASE_URL; WEIGHBRIDGE_DRAIN_TIMEOUT;
WEIGHBRIDGE_FIRST_BYTE_TIMEOUT; WEIGHBRIDGE_HOST; WEIGHBRIDGE_IDLE_TIMEOUT; WEIGHBRIDGE_KEEP_ALIVE_TIMEOUT;
WEIGHBRIDGE_LOG_FORMAT; WEIGHBRIDGE_MAX_BODY_BYTES; WEIGHBRIDGE_MAX_BUFFERED_BYTES; WEIGHBRIDGE_MAX_STREAMS;
WEIGHBRIDGE_PORT; WEIGHBRIDGE_REDIS_URL; WEIGHBRIDGE_REQUEST_TIMEOUT; WEIGHBRIDGE_RETENTION_DAYS;
WEIGHBRIDGE_STATE_DIR; WEIGHBRIDGE_UPSTREAM_KEY; WEIGHBRIDGE_UPSTREAM_KEY_FILE; WEIGHBRIDGE_UPSTREAM_URL;
WEIGHBRIDGE_WRITE_TIMEOUT
"""

ERRORS = """
400 invalid_request; 401 authentication; 403 model_not_allowed; 403 origin_not_allowed; 404 not_found;
408 request_timeout; 413 payload_too_large; 415 unsupported_media_type; 421 misdirected_request;
426 upgrade_not_supported; 429 insufficient_quota; 429 rate_limited; 431 headers_too_large; 502 upstream_auth;
502 upstream_error; 502 upstream_protocol_error; 502 upstream_redirect; 502 upstream_unreachable; 503 draining;
503 overloaded; 503 storage_unavailable; 504 upstream_timeout
"""
PLANNED_ERRORS = "409 upstream_pinned"

METRICS = """
weighbridge_cost_usd_total; weighbridge_event_loop_lag_seconds; weighbridge_ledger_commit_seconds;
weighbridge_ledger_queue_depth; weighbridge_ledger_spooled_total; weighbridge_overhead_seconds;
weighbridge_refusals_total; weighbridge_request_duration_seconds; weighbridge_requests_total;
weighbridge_streams_in_flight; weighbridge_time_to_first_byte_seconds; weighbridge_tokens_total;
weighbridge_unsettled_records; weighbridge_upstream_connections
"""
PLANNED_METRICS = "weighbridge_upstream_keys; weighbridge_upstream_tries_total"


def names(text: str) -> set[str]:
    """The names of a list above."""
    return {name.strip() for name in text.split(";")}
