"""The callers: the hot route, account and admin routes, probes, and how errors become HTTP."""
