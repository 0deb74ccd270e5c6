"""Rules that a request's head must pass before any route sees it (threats.md A2, A3).

uvicorn's parsers let too much pass: httptools accepts no Host or two, `Transfer-Encoding: gzip, chunked`, and headers
of any size. The rules judge what the parser has read, so that no later code reads the same head in another way.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass

from app.domain.errors import ApiError, HeadersTooLarge, InvalidRequest, MisdirectedRequest, OriginNotAllowed

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together."""

MAX_HEADERS = 256
MAX_TARGET_BYTES = 8 * 1024

PROBES = (b"/healthz", b"/readyz")
"""These accept any Host: machines call them by any address, and their answers hold no secrets."""

_METRICS = b"/metrics"  # accepts any Host from a caller that sends a key, which is checked later

_ONCE = frozenset(
    (
        b"host",
        b"authorization",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"origin",
        b"sec-fetch-site",
    )
)
_FROM_OURSELVES = (b"same-origin", b"none")  # browsers send these for our own pages and for a typed address


@dataclass(slots=True, frozen=True)
class RequestRules:
    """`allowed_hosts` are in lower case without ports, IPv6 addresses in brackets; `*` among them allows any.

    `any_address` allows any IP address as Host as well: without a name there is no DNS rebinding. `allowed_origins` are
    whole origins as browsers send them (`https://app.example.com`); our own origin is always allowed.
    """

    allowed_hosts: frozenset[bytes]
    allowed_origins: frozenset[bytes] = frozenset()
    any_address: bool = False

    def judge(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> ApiError | None:
        """The error to refuse the head with, or None. Header names are in lower case."""
        if len(target) > MAX_TARGET_BYTES:
            return HeadersTooLarge(f"The request's target is over {MAX_TARGET_BYTES} bytes.")
        if not target.startswith(b"/") or target.find(b"#") >= 0:
            return InvalidRequest("The request's target must be a path.")
        seen = dict(headers)
        if len(seen) < len(headers):
            counts = Counter(name for name, _ in headers)
            for name in _ONCE:
                if counts[name] > 1:
                    return InvalidRequest(f"The request has two {name.decode('ascii').title()} headers.")
        return (
            self._judge_framing(headers, seen)
            or self._judge_host(target, seen)
            or (self._judge_origin(seen) if b"origin" in seen or b"sec-fetch-site" in seen else None)
        )

    @staticmethod
    def _judge_framing(headers: list[tuple[bytes, bytes]], seen: dict[bytes, bytes]) -> ApiError | None:
        if b"transfer-encoding" not in seen:
            return None
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            return InvalidRequest("Transfer-Encoding must be chunked and nothing else.")
        if b"content-length" in seen:
            return InvalidRequest("The request has both a Transfer-Encoding and a Content-Length.")
        return None

    def _judge_host(self, target: bytes, seen: dict[bytes, bytes]) -> ApiError | None:
        host = seen.get(b"host")
        if host is None:
            return InvalidRequest("The request has no Host header.")
        if target in PROBES or host_name(host) in self.allowed_hosts or b"*" in self.allowed_hosts:
            return None
        if target == _METRICS and b"authorization" in seen:
            return None
        if self.any_address and is_address(host_name(host)):
            return None
        return MisdirectedRequest(
            "This server does not answer to the request's Host. Add its name to the setting server.allowed_hosts "
            "(WEIGHBRIDGE_ALLOWED_HOSTS)."
        )

    def _judge_origin(self, seen: dict[bytes, bytes]) -> ApiError | None:
        """Refuse pages of origins that are neither our own nor allowed. Only browsers send the two headers.

        A link to one of our pages may be followed from any page: the linking page cannot read the answer.
        """
        origin = seen.get(b"origin")
        if origin is not None:
            if origin in self.allowed_origins or _is_own(origin, seen[b"host"]):
                return None
        elif seen[b"sec-fetch-site"] in _FROM_OURSELVES or _is_link(seen):
            return None
        return OriginNotAllowed(
            "Web pages of this origin may not call here. The setting server.allowed_origins names those that may."
        )


def judge_old_version(version: str, headers: list[tuple[bytes, bytes]]) -> ApiError | None:
    """The error to refuse a request that is not HTTP/1.1 with, or None. HTTP/1.0 has no chunks (RFC 9112)."""
    if version != "1.0":
        return InvalidRequest("The request must be HTTP/1.1 or HTTP/1.0.")
    if any(name == b"transfer-encoding" for name, _ in headers):
        return InvalidRequest("An HTTP/1.0 request must have a Content-Length and no Transfer-Encoding.")
    return None


def _is_own(origin: bytes, host: bytes) -> bool:
    """Whether a page of this origin came from the host that it calls. The scheme may differ: a proxy may add TLS."""
    scheme, _, rest = origin.partition(b"://")
    return scheme in (b"http", b"https") and rest == host.lower()


def _is_link(seen: dict[bytes, bytes]) -> bool:
    return seen.get(b"sec-fetch-mode") == b"navigate" and seen.get(b"sec-fetch-dest") == b"document"


def host_name(host: bytes) -> bytes:
    """A Host header without its port, in lower case; empty when it is not a valid host."""
    host = host.strip().lower()
    if host.startswith(b"["):
        name, bracket, port = host.partition(b"]")
        name += bracket
        port = port.removeprefix(b":") if port.startswith(b":") else port or b"0"
    else:
        name, _, port = host.partition(b":")
        port = port or b"0"
    return name.removesuffix(b".") if port.isdigit() and name else b""


def is_address(name: bytes) -> bool:
    """Whether a host's name, as host_name() gives it, is an IP address, IPv6 in brackets."""
    literal = name.decode("latin-1")
    if "%" in literal:  # an IPv6 zone, which means something on the caller's machine only
        return False
    bracketed = literal.startswith("[") and literal.endswith("]")
    try:
        address = ipaddress.ip_address(literal[1:-1] if bracketed else literal)
    except ValueError:
        return False
    return (address.version == 6) == bracketed
