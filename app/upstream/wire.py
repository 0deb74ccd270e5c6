"""The wire: the gateway's Upstream port on our own HTTP/1.1 connections.

The key is put in here, last, into every request head, and nowhere else; the headers that arrive have been through
`app.domain.headers`, so no client's credential is among them.
"""

import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.domain.errors import UpstreamUnreachable
from app.upstream.call import Call, is_sendable
from app.upstream.pool import Origin, Pool, WireTimeouts

if TYPE_CHECKING:
    from app.gateway.ports import UpstreamListener, UpstreamRequest

_CA_BUNDLES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
"""Where systems keep their certificates, for a Python that was built to look elsewhere."""


@dataclass(slots=True, frozen=True)
class Target:
    """A base URL taken apart. `prefix` has no trailing slash; `authority` is the Host header."""

    origin: Origin
    authority: str
    prefix: str

    @classmethod
    def of(cls, base_url: str, *, ca_file: str | None = None) -> "Target":
        """`base_url` has been validated by settings: http(s), a host, no user info, no query."""
        url = urlsplit(base_url)
        secure = url.scheme == "https"
        host = url.hostname or ""
        port = url.port or (443 if secure else 80)
        shown = f"[{host}]" if ":" in host else host
        authority = shown if url.port is None else f"{shown}:{url.port}"
        return cls(Origin(host, port, tls_context(ca_file) if secure else None), authority, url.path.rstrip("/"))


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Trust what the system trusts, or only `ca_file` when one is given. HTTP/1.1 is what we speak."""
    context = _system_context() if ca_file is None else ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _system_context() -> ssl.SSLContext:
    if sys.platform in {"darwin", "win32"}:  # the store is not a file there
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # truststore would read the whole bundle anew for every connection, on the loop: 36-47 ms each, measured
    context = ssl.create_default_context()
    if ssl.get_default_verify_paths().cafile is None:
        bundle = next((path for path in _CA_BUNDLES if Path(path).is_file()), None)
        if bundle is not None:
            context.load_verify_locations(cafile=bundle)
    return context


class Wire:
    """One upstream with its key. Made on the loop it is used on; closed with close()."""

    def __init__(self, name: str, target: Target, key: str, timeouts: WireTimeouts) -> None:
        self._name = name
        self._prefix = target.prefix
        self._pool = Pool(target.origin, timeouts)
        self._fixed = (
            f" HTTP/1.1\r\nhost: {target.authority}\r\nauthorization: Bearer {key}\r\naccept-encoding: identity\r\n"
        ).encode("ascii")

    def __repr__(self) -> str:
        return f"Wire({self._name!r})"

    @property
    def name(self) -> str:
        """As in the ledger."""
        return self._name

    def open(self, request: "UpstreamRequest", listener: "UpstreamListener") -> Call:
        """Send the call. Faults go to the listener, never before this returns."""
        head, lines = self._head(request)
        call = Call(head, request.body, listener)
        if is_sendable(head, lines) and " " not in request.path and " " not in request.method:
            self._pool.submit(call)
        else:
            self._pool.refuse(call, UpstreamUnreachable("The request can not be written as HTTP; nothing was sent."))
        return call

    def connections(self) -> dict[str, int]:
        """Connections by state: idle, busy, opening."""
        return self._pool.counts()

    async def close(self) -> None:
        """Drop every connection."""
        await self._pool.close()

    def _head(self, request: "UpstreamRequest") -> tuple[bytes, int]:
        """The head, and how many lines it must have, the empty one too."""
        parts = [f"{request.method} {self._prefix}{request.path}".encode("utf-8", "surrogatepass"), self._fixed]
        lines = 5 + len(request.headers)
        for name, value in request.headers:
            parts += (name, b": ", value, b"\r\n")
        if request.body or request.method == "POST":
            parts.append(b"content-length: %d\r\n" % len(request.body))
            lines += 1
        parts.append(b"\r\n")
        return b"".join(parts), lines
