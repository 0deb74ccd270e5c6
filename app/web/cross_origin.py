"""What pages of the named origins are given: preflights answered, answers that they may read (CORS).

The request rules have refused every other page by then. Nothing is given to an origin that is not named, there is no
`*`, and cookies are not allowed for: a page calls with a client key, as any program does. Pages of the Internet that
call a server on their user's own machine need the browser's leave besides (Local Network Access); its forerunner, a
header that the server could send (Private Network Access), is not sent.
"""

import re
from dataclasses import dataclass

from starlette.types import Message, Scope, Send

from app.domain.headers import value_of

MAX_AGE_SECONDS = 600

_ROUTES = re.compile(rb"(?:/api/v1|/v1)?/(?:responses|models|key|usage)(?:/.*)?")
"""Those of clients. Pages, metrics and the admin API are for our own origin."""

_EXPOSED = (
    b"x-request-id, x-weighbridge-request-id, retry-after, retry-after-ms, x-should-retry, x-generation-id, "
    b"openai-processing-ms, ratelimit, ratelimit-policy, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, "
    b"x-ratelimit-limit-concurrency, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, "
    b"x-ratelimit-remaining-concurrency, "
    b"x-ratelimit-reset-requests, x-ratelimit-reset-tokens"
)
_ASKABLE = frozenset(
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
_ASKABLE_PREFIXES = (b"openai-", b"x-openai-", b"x-openrouter-", b"x-stainless-")


@dataclass(slots=True, frozen=True)
class CrossOrigin:
    """`origins` are the named ones."""

    origins: frozenset[bytes]

    def origin_of(self, scope: Scope) -> bytes | None:
        """The named origin that a request for a client's route comes from, if it does."""
        origin = value_of(scope["headers"], b"origin")
        return origin if origin in self.origins and _ROUTES.fullmatch(scope["raw_path"]) else None

    async def preflight(self, scope: Scope, origin: bytes, send: Send) -> None:
        """Answer a browser that asks, before it sends what a page wants to send. No key is needed, none is sent."""
        headers = [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-max-age", b"%d" % MAX_AGE_SECONDS),
            (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
            (b"content-length", b"0"),
        ]
        asked = value_of(scope["headers"], b"access-control-request-headers") or b""
        granted = [name for name in (part.strip().lower() for part in asked.split(b",")) if _askable(name)]
        if granted:
            headers.append((b"access-control-allow-headers", b", ".join(granted)))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @staticmethod
    def marking(origin: bytes, send: Send) -> Send:
        """A `send` whose answers the page may read."""
        marks = [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *marks]}
            await send(message)

        return send_marked


def is_preflight(scope: Scope) -> bool:
    """Whether it is the browser that asks, and not yet the page."""
    return scope["method"] == "OPTIONS" and value_of(scope["headers"], b"access-control-request-method") is not None


def _askable(name: bytes) -> bool:
    return name in _ASKABLE or name.startswith(_ASKABLE_PREFIXES)
