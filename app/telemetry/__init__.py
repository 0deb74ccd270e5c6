"""The operators: log lines and metrics."""
