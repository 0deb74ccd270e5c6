"""What a request's head must be before anyone looks at what it asks for (threats.md A2, A3).

uvicorn's parsers each leave gaps: httptools takes a missing Host, two of them, `Transfer-Encoding: gzip, chunked` and
headers of any size. Judged here, once, with the parser's own reading, so that nobody behind reads it differently.
"""

from dataclasses import dataclass

from app.domain.errors import ApiError, HeadersTooLarge, InvalidRequest, MisdirectedRequest

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together."""

MAX_HEADERS = 200
MAX_TARGET_BYTES = 8 * 1024

PROBES = (b"/healthz", b"/readyz")
"""Asked by machines under whatever address they found, and telling nothing: any Host will do."""

_ONCE = frozenset((b"host", b"authorization", b"content-length", b"content-type", b"content-encoding"))


@dataclass(slots=True, frozen=True)
class RequestRules:
    """`allowed_hosts` in lower case without ports, IPv6 addresses in brackets; `*` among them allows any."""

    allowed_hosts: frozenset[bytes]

    def judge(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> ApiError | None:
        """Why the head must be refused, if so. Header names are in lower case."""
        if len(target) > MAX_TARGET_BYTES:
            return HeadersTooLarge(f"The request's target is over {MAX_TARGET_BYTES} bytes.")
        if not target.startswith(b"/"):
            return InvalidRequest("The request's target must be a path.")
        seen: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _ONCE and name in seen:
                return InvalidRequest(f"The request has two {name.decode('ascii').title()} headers.")
            seen[name] = value
        return self._judge_framing(headers, seen) or self._judge_host(target, seen.get(b"host"))

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

    def _judge_host(self, target: bytes, host: bytes | None) -> ApiError | None:
        if host is None:
            return InvalidRequest("The request has no Host header.")
        if target in PROBES or host_name(host) in self.allowed_hosts or b"*" in self.allowed_hosts:
            return None
        return MisdirectedRequest(
            "This server does not answer to the request's Host. The setting server.allowed_hosts says to which it does."
        )


def host_name(host: bytes) -> bytes:
    """A Host header without its port, in lower case; empty when it is none."""
    host = host.strip().lower()
    if host.startswith(b"["):
        name, bracket, port = host.partition(b"]")
        name += bracket
        port = port.removeprefix(b":") if port.startswith(b":") else port or b"0"
    else:
        name, _, port = host.partition(b":")
        port = port or b"0"
    return name.removesuffix(b".") if port.isdigit() and name else b""
