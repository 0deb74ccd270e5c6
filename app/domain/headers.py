"""Which headers cross, in either direction.

Towards upstream there is an allow-list: an unknown header could steer a gateway behind us, and the server's key with
it. Towards the client everything crosses except hop-by-hop headers, what would bind the client to upstream's site, and
what names the server's account.
"""

import re
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, values as they came, in order, repeats kept."""

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)

_TO_EVERY_UPSTREAM = frozenset(
    (
        b"accept",
        b"content-type",
        b"http-referer",
        b"idempotency-key",
        b"openai-beta",
        b"user-agent",
        b"x-client-request-id",
        b"x-codex-turn-state",
        b"x-session-id",
        b"x-title",
    )
)
_TO_EVERY_UPSTREAM_PREFIXES = (b"x-openrouter-", b"x-stainless-")
_TO_OPENAI = frozenset((b"originator", b"session-id", b"thread-id", b"version"))
_TO_OPENAI_PREFIXES = (b"x-codex-", b"x-oai-", b"x-openai-", b"x-responsesapi-")
"""To hosts of OpenAI and Azure only: they name the caller's machine and session."""

_OF_THIS_HOP = _HOP_BY_HOP | frozenset(
    (
        # the wire sets them, or they are no longer true of the body that is sent
        b"accept-encoding",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"host",
        b"authorization",
    )
)
_NEVER_UPSTREAM = _OF_THIS_HOP | frozenset(
    (
        # whose account it is
        b"chatgpt-account-id",
        b"openai-organization",
        b"openai-project",
        # tracing of the caller's own
        b"baggage",
        b"traceparent",
        b"tracestate",
    )
)
_NEVER_UPSTREAM_PREFIXES = (b"proxy-", b"x-weighbridge-")
_CREDENTIAL = re.compile(
    rb"(api|access|auth|bearer|private|refresh|secret|security|session)[-_]?(key|token)"
    rb"|authenticat|authoriz|cookie|credential|passw|secret"
)

_NOT_DOWNSTREAM = _HOP_BY_HOP | frozenset(
    (
        b"alt-svc",
        b"clear-site-data",
        b"openai-organization",
        b"openai-project",
        b"set-cookie",
        b"set-cookie2",
        b"strict-transport-security",
        b"www-authenticate",
    )
)
_NOT_DOWNSTREAM_PREFIXES = (b"access-control-", b"proxy-", b"x-weighbridge-")

_REMEMBERED_NAMES = 1024
_REMEMBERED_NAME_BYTES = 64
_REPORTED_NAMES = 256
_LENGTH_DIGITS = 18


class HeaderRule:
    """Decides by name and remembers its decisions: real traffic has few and short names.

    `dropped` is called once with each name that does not cross, for at most 256 names.
    """

    def __init__(self, may_cross: Callable[[bytes], bool], dropped: Callable[[str], None] | None = None) -> None:
        self._may_cross = may_cross
        self._dropped = dropped
        self._crosses: dict[bytes, bool] = {}

    def select(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The headers that cross, in order. Names are in lower case; names in a `Connection` header do not cross."""
        crosses = self._crosses
        selected: Headers = []
        listed: frozenset[bytes] = frozenset()
        for header in headers:
            name = header[0]
            try:
                passes = crosses[name]
            except KeyError:
                passes = self._decide(name)
            if passes:
                selected.append(header)
            elif name == b"connection":
                listed |= frozenset(token.strip().lower() for token in header[1].split(b","))
        if listed - {b"keep-alive", b"close"}:
            selected = [header for header in selected if header[0] not in listed]
        return selected

    def _decide(self, name: bytes) -> bool:
        passes = self._may_cross(name)
        if len(name) <= _REMEMBERED_NAME_BYTES and len(self._crosses) < _REMEMBERED_NAMES:
            self._crosses[name] = passes
            if not passes and self._dropped and name not in _OF_THIS_HOP and len(self._crosses) <= _REPORTED_NAMES:
                self._dropped(name.decode("ascii", "backslashreplace"))
        return passes


def towards_upstream(
    *, openai: bool = False, more: Collection[str] = (), dropped: Callable[[str], None] | None = None
) -> HeaderRule:
    """The rule for requests.

    Args:
        openai: whether upstream is OpenAI or Azure, which read some more headers.
        more: globs of further names in lower case. never_crosses() overrules them.
        dropped: called once with each name that is dropped.

    """
    exact = _TO_EVERY_UPSTREAM | (_TO_OPENAI if openai else frozenset())
    prefixes = (*_TO_EVERY_UPSTREAM_PREFIXES, *(_TO_OPENAI_PREFIXES if openai else ()))

    def may_cross(name: bytes) -> bool:
        if name in exact:
            return True
        if never_crosses(name):
            return False
        return name.startswith(prefixes) or any(fnmatchcase(name.decode("latin-1"), glob) for glob in more)

    return HeaderRule(may_cross, dropped)


def never_crosses(name: bytes) -> bool:
    """Whether a header is never forwarded, whatever the settings say: credentials, tracing, hop-by-hop headers."""
    known = name in _NEVER_UPSTREAM or name.startswith(_NEVER_UPSTREAM_PREFIXES)
    return known or _CREDENTIAL.search(name) is not None


def towards_client() -> HeaderRule:
    """The rule for answers. `content-length` and `content-encoding` cross, since the body's bytes do not change."""
    return HeaderRule(lambda name: name not in _NOT_DOWNSTREAM and not name.startswith(_NOT_DOWNSTREAM_PREFIXES))


def value_of(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a header given in lower case."""
    for found, value in headers:
        if found == name:
            return value
    return None


def announced_length(value: bytes | None) -> int | None:
    """The bytes that a Content-Length announces; None if there is none, or it is not a number."""
    return int(value) if value is not None and value.isdigit() and len(value) <= _LENGTH_DIGITS else None
