"""CORS: answers preflights of allowed origins, and lets their pages read our answers.

The request rules have already refused all other pages. There is no `*`, and cookies are not allowed: a page calls with
a client key, as any program does. A page of the Internet that calls a server on its user's own machine also needs the
browser's permission (Local Network Access). We do not send the header of its predecessor (Private Network Access).
"""

import re
from dataclasses import dataclass

from starlette.types import Message, Scope, Send

from app.domain.headers import value_of

MAX_AGE_SECONDS = 600

_ROUTES = re.compile(rb"(?:/api/v1|/v1)?/(?:responses|models|key|usage)(?:/.*)?")
"""The routes for clients. Metrics and the admin API are for our own origin only."""

_EXPOSED = (
    b"x-request-id, x-weighbridge-request-id, retry-after, retry-after-ms, x-should-retry, x-generation-id, "
    b"openai-processing-ms, ratelimit, ratelimit-policy, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, "
    b"x-ratelimit-limit-concurrency, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, "
    b"x-ratelimit-remaining-concurrency, "
    b"x-ratelimit-reset-requests, x-ratelimit-reset-tokens"
)
_ALLOWED_HEADERS = frozenset(
    (
        b"accept",
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"http-referer",
        b"idempotency-key",
        b"originator",
        b"user-agent",
        b"version",
        b"x-client-request-id",
        b"x-title",
    )
)
_ALLOWED_HEADER_PREFIXES = (b"openai-", b"x-openai-", b"x-openrouter-", b"x-stainless-")


@dataclass(slots=True, frozen=True)
class CrossOrigin:
    """`origins` are those that the settings allow."""

    origins: frozenset[bytes]

    def origin_of(self, scope: Scope) -> bytes | None:
        """The allowed origin that a request for a client route comes from, or None."""
        origin = value_of(scope["headers"], b"origin")
        return origin if origin in self.origins and _ROUTES.fullmatch(scope["raw_path"]) else None

    async def preflight(self, scope: Scope, origin: bytes, send: Send) -> None:
        """Answer a preflight. Browsers send none of the page's credentials with it, so it needs no key."""
        headers = [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-max-age", b"%d" % MAX_AGE_SECONDS),
            (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
            (b"content-length", b"0"),
        ]
        asked = value_of(scope["headers"], b"access-control-request-headers") or b""
        granted = [name for name in (part.strip().lower() for part in asked.split(b",")) if _is_allowed_header(name)]
        if granted:
            headers.append((b"access-control-allow-headers", b", ".join(granted)))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @staticmethod
    def readable(origin: bytes, send: Send) -> Send:
        """Wrap `send`: the page may read the answers."""
        marks = [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *marks]}
            await send(message)

        return send_readable


def is_preflight(scope: Scope) -> bool:
    """Whether a request is a browser's preflight."""
    return scope["method"] == "OPTIONS" and value_of(scope["headers"], b"access-control-request-method") is not None


def _is_allowed_header(name: bytes) -> bool:
    return name in _ALLOWED_HEADERS or name.startswith(_ALLOWED_HEADER_PREFIXES)
