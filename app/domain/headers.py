"""Which headers cross, in either direction. Everything crosses but what is listed here (protocol.md, sections 2 and 3).

Towards upstream stay behind: what belongs to one hop, what the wire sets itself, every credential, what names the
client's account or address, and what only a browser or an outer proxy means. Towards the client stay behind: what
belongs to one hop, what would bind the client to upstream's site, and what names the server's account.
"""

from collections.abc import Callable, Iterable

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

_NOT_UPSTREAM = _HOP_BY_HOP | frozenset(
    (
        # set by the wire, or no longer true of the body that is sent
        b"accept-encoding",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"host",
        # credentials, and whose account they are
        b"api-key",
        b"authorization",
        b"chatgpt-account-id",
        b"cookie",
        b"openai-organization",
        b"openai-project",
        b"x-api-key",
        b"x-goog-api-key",
        # where the client is and how it came
        b"baggage",
        b"cdn-loop",
        b"forwarded",
        b"origin",
        b"referer",
        b"traceparent",
        b"tracestate",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    )
)
_NOT_UPSTREAM_PREFIXES = (b"cf-", b"proxy-", b"sec-", b"x-forwarded-", b"x-weighbridge-")

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
_LENGTH_DIGITS = 18


class HeaderRule:
    """Decides by name, and remembers its decisions: real traffic has few names, and short ones."""

    def __init__(self, stays: Callable[[bytes], bool]) -> None:
        self._stays = stays
        self._crosses: dict[bytes, bool] = {}

    def select(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The headers that cross, in order. Names are in lower case; those that a `Connection` header lists stay."""
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
        passes = not self._stays(name)
        if len(name) <= _REMEMBERED_NAME_BYTES and len(self._crosses) < _REMEMBERED_NAMES:
            self._crosses[name] = passes
        return passes


def towards_upstream() -> HeaderRule:
    """The rule for requests. What passes may be sent as it is, behind the wire's own headers."""
    return HeaderRule(lambda name: name in _NOT_UPSTREAM or name.startswith(_NOT_UPSTREAM_PREFIXES))


def towards_client() -> HeaderRule:
    """The rule for answers. `content-length` and `content-encoding` cross, since the body's bytes do."""
    return HeaderRule(lambda name: name in _NOT_DOWNSTREAM or name.startswith(_NOT_DOWNSTREAM_PREFIXES))


def value_of(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a header given in lower case."""
    for found, value in headers:
        if found == name:
            return value
    return None


def announced_length(value: bytes | None) -> int | None:
    """The bytes that a Content-Length announces; None when there is none, or none that is a length."""
    return int(value) if value is not None and value.isdigit() and len(value) <= _LENGTH_DIGITS else None
