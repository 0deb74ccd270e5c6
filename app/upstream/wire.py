"""The wire: the gateway's Upstream port on our own HTTP/1.1 connections.

The key is put in here, last, into every request head, and nowhere else; the headers that arrive have been through
`app.domain.headers`, so no client's credential is among them.
"""

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import truststore

from app.gateway.ports import UpstreamListener, UpstreamRequest
from app.upstream.call import Call
from app.upstream.pool import Origin, Pool, WireTimeouts


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
    context: ssl.SSLContext
    if ca_file is not None:
        context = ssl.create_default_context(cafile=ca_file)
    else:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
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

    def open(self, request: UpstreamRequest, listener: UpstreamListener) -> Call:
        """Send the call. Faults go to the listener, never before this returns."""
        call = Call(self._head(request), request.body, listener)
        self._pool.submit(call)
        return call

    def connections(self) -> dict[str, int]:
        """Connections by state: idle, busy, opening."""
        return self._pool.counts()

    async def close(self) -> None:
        """Drop every connection."""
        await self._pool.close()

    def _head(self, request: UpstreamRequest) -> bytes:
        parts = [f"{request.method} {self._prefix}{request.path}".encode("ascii"), self._fixed]
        for name, value in request.headers:
            parts += (name, b": ", value, b"\r\n")
        if request.body or request.method == "POST":
            parts.append(b"content-length: %d\r\n" % len(request.body))
        parts.append(b"\r\n")
        return b"".join(parts)
