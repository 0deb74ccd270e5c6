"""The ordinary routes: a caller's own account, the admin API, probes."""
