"""Refusals of the mock upstream, in the words of the dialect."""

from typing import Any

from app.mock.dialects import Dialect

_CODES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", None),
    413: ("invalid_request_error", None),
    429: ("tokens", "rate_limit_exceeded"),
    503: ("server_error", "server_is_overloaded"),
}
_ERROR_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    429: "rate_limit_exceeded",
    502: "provider_unavailable",
    503: "provider_unavailable",
    529: "provider_overloaded",
}
_MESSAGES = {
    401: "Incorrect API key provided.",
    402: "Insufficient credits.",
    403: "This key may not use the model.",
    404: "Not found.",
    429: "Rate limit reached. Please try again in 2s.",
    503: "The server is overloaded.",
    529: "Provider returned error",
}


class MockRefusal(Exception):
    """A call that the mock does not serve: an HTTP status and why."""

    def __init__(self, status: int, message: str = "", *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message or _MESSAGES.get(status, "The server had an error.")
        self.param = param
        self.code = code

    def body(self, dialect: Dialect) -> dict[str, Any]:
        """The JSON of the refusal."""
        return self._openrouter() if dialect.openrouter else self._openai()

    def _openai(self) -> dict[str, Any]:
        kind, code = _CODES.get(self.status, ("server_error", None))
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code or code}}

    def _openrouter(self) -> dict[str, Any]:
        if self.code is not None:
            return {"error": {"code": self.code, "message": self.message}, "metadata": None}
        error: dict[str, Any] = {"message": self.message, "code": self.status}
        if error_type := _ERROR_TYPES.get(self.status):
            error["metadata"] = {"error_type": error_type}
        return {"error": error}
