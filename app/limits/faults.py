"""Why a limiter cannot be opened."""


class LimiterUnusable(Exception):
    """The Redis URL or its driver cannot be used. The message is for the operator and holds no password."""
