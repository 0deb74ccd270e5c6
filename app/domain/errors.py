"""All errors that Weighbridge itself answers, as one tree.

    ApiError                      status  error_type
    ├── InvalidRequest            400     invalid_request
    ├── AuthenticationFailed      401     authentication            x-should-retry: false
    ├── ModelNotAllowed           403     model_not_allowed         x-should-retry: false
    ├── OriginNotAllowed          403     origin_not_allowed        x-should-retry: false
    ├── NotFound                  404     not_found
    ├── RequestTimedOut           408     request_timeout
    ├── PayloadTooLarge           413     payload_too_large
    ├── UnsupportedMediaType      415     unsupported_media_type
    ├── MisdirectedRequest        421     misdirected_request
    ├── UpgradeNotSupported       426     upgrade_not_supported
    ├── RateLimited               429     rate_limited              retry-after, x-ratelimit-*
    ├── QuotaSpent                429     insufficient_quota        x-should-retry: false
    ├── HeadersTooLarge           431     headers_too_large
    ├── InternalError             500     internal_error
    ├── UpstreamFault                     (upstream's faults)
    │   ├── UpstreamUnreachable   502     upstream_unreachable
    │   ├── UpstreamProtocolError 502     upstream_protocol_error
    │   ├── UpstreamAuthFailed    502     upstream_auth             x-should-retry: false
    │   ├── UpstreamRedirected    502     upstream_redirect
    │   ├── UpstreamErrorReplaced 502     upstream_error
    │   └── UpstreamTimedOut      504     upstream_timeout          x-should-retry: false
    ├── Overloaded                503     overloaded                retry-after
    ├── Draining                  503     draining                  retry-after
    └── StorageUnavailable        503     storage_unavailable       retry-after

Each class has its status, ``error_type``, OpenAI ``type`` and headers. Only `app.web.errors` renders them. Messages
are for the caller and never hold a key, a header value or a path of the server.
"""

from typing import ClassVar

NO_RETRY = (("x-should-retry", "false"),)


class ApiError(Exception):
    """A failure with an HTTP answer. `param` names the request field at fault, if any.

    `detail` tells the operator, in the record and the log, why the call failed. It defaults to the message.
    """

    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "server_error"
    headers: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail or message
        self.param = param
        self.extra_headers = headers


class InternalError(ApiError):
    """A fault of Weighbridge. The log has the details; the caller gets none."""


class InvalidRequest(ApiError):
    """Not JSON, not an object, duplicate top-level keys, malformed HTTP."""

    status, error_type, type = 400, "invalid_request", "invalid_request_error"


class AuthenticationFailed(ApiError):
    """No key, an unknown, expired or revoked one, or a credential outside of `Authorization: Bearer`."""

    status, error_type, type = 401, "authentication", "invalid_request_error"
    headers = (*NO_RETRY, ("www-authenticate", "Bearer"))


class ModelNotAllowed(ApiError):
    """The client's allow-list does not have the model."""

    status, error_type, type = 403, "model_not_allowed", "invalid_request_error"
    headers = NO_RETRY


class OriginNotAllowed(ApiError):
    """A browser page of another origin."""

    status, error_type, type = 403, "origin_not_allowed", "invalid_request_error"
    headers = NO_RETRY


class NotFound(ApiError):
    """No such route, or an id that this client does not own."""

    status, error_type, type = 404, "not_found", "invalid_request_error"


class RequestTimedOut(ApiError):
    """The request comes too slowly."""

    status, error_type, type = 408, "request_timeout", "invalid_request_error"


class PayloadTooLarge(ApiError):
    """The body, as sent or as decoded, is over the limit."""

    status, error_type, type = 413, "payload_too_large", "invalid_request_error"


class UnsupportedMediaType(ApiError):
    """Not application/json, or a content coding that is not identity, gzip, deflate or zstd."""

    status, error_type, type = 415, "unsupported_media_type", "invalid_request_error"


class MisdirectedRequest(ApiError):
    """The Host is not one that this server answers for."""

    status, error_type, type = 421, "misdirected_request", "invalid_request_error"


class UpgradeNotSupported(ApiError):
    """A WebSocket upgrade where there is none. 426 makes Codex fall back to HTTP at once."""

    status, error_type, type = 426, "upgrade_not_supported", "invalid_request_error"


class RateLimited(ApiError):
    """Too many requests, tokens or concurrent calls."""

    status, error_type, type = 429, "rate_limited", "rate_limit_error"


class QuotaSpent(ApiError):
    """A budget is spent; the message says which and when it resets."""

    status, error_type, type = 429, "insufficient_quota", "insufficient_quota"
    headers = NO_RETRY


class HeadersTooLarge(ApiError):
    """The header block or the target is over the limit."""

    status, error_type, type = 431, "headers_too_large", "invalid_request_error"


class UpstreamFault(ApiError):
    """Upstream failed. Before the first byte the client gets this error; after it, the stream is broken off."""

    status = 502


class UpstreamUnreachable(UpstreamFault):
    """No connection: refused, no such host, TLS, connect timeout. Nothing was sent."""

    error_type = "upstream_unreachable"


class UpstreamProtocolError(UpstreamFault):
    """The connection broke, or the answer was not HTTP. The call may have been billed."""

    error_type = "upstream_protocol_error"


class UpstreamAuthFailed(UpstreamFault):
    """Upstream refused the server's key. Only an operator can mend this."""

    error_type = "upstream_auth"
    headers = NO_RETRY


class UpstreamRedirected(UpstreamFault):
    """Upstream answered with a redirect or a protocol switch. Following one would send the key elsewhere."""

    error_type = "upstream_redirect"


class UpstreamErrorReplaced(UpstreamFault):
    """Upstream's error answer could not be passed on: not JSON, too large, or it held the key."""

    error_type = "upstream_error"


class UpstreamTimedOut(UpstreamFault):
    """No first byte in time, or too long a silence in mid-stream."""

    status, error_type = 504, "upstream_timeout"
    headers = NO_RETRY  # upstream may still be working on the call


class Overloaded(ApiError):
    """The process has no room for another call, or its event loop is late."""

    status, error_type = 503, "overloaded"
    headers = (("retry-after", "1"),)


class Draining(ApiError):
    """The server is stopping."""

    status, error_type = 503, "draining"
    headers = (("retry-after", "2"),)


class StorageUnavailable(ApiError):
    """The record of the call could not be stored."""

    status, error_type = 503, "storage_unavailable"
    headers = (("retry-after", "5"),)
