"""Upstream's ordinary routes: account, usage records, statements."""
