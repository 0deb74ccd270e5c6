"""Where calls go: the parts of a base URL, and the proxy on the way."""

import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from app.upstream.wire.tls import tls_context


@dataclass(slots=True, frozen=True)
class Proxy:
    """An HTTP proxy that opens tunnels (CONNECT). `authorization` is the value of Proxy-Authorization, or empty."""

    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, url: str, password: str | None = None) -> Self:
        """`url` has been validated by settings: http, a host, a port, perhaps a user name, no password."""
        parts = urlsplit(url)
        authorization = b""
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{password or ''}"
            authorization = b"Basic " + b64encode(login.encode())
        return cls(parts.hostname or "", parts.port or 80, authorization)


@dataclass(slots=True, frozen=True)
class Origin:
    """The server to connect to. `tls` is None for plain http, which settings allow for loopback only."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    proxy: Proxy | None = None

    @property
    def first_hop(self) -> "Origin | Proxy":
        """The proxy if there is one, else the server."""
        return self.proxy or self


@dataclass(slots=True, frozen=True)
class Target:
    """The parts of a base URL: `url` is without its query, `prefix` is the path without a slash at its end.

    `authority` is the Host header; `query` comes before each call's own query.
    """

    origin: Origin
    url: str
    authority: str
    prefix: str
    query: bytes = b""

    @classmethod
    def of(cls, base_url: str, *, ca_file: str | None = None, proxy: Proxy | None = None) -> Self:
        """`base_url` has been validated by settings: http(s), a host, no user info, no fragment.

        Reads the trusted authorities, which takes about 40 ms. Raises OSError if `ca_file` cannot be read.
        """
        url = urlsplit(base_url)
        secure = url.scheme == "https"
        host = url.hostname or ""
        shown = f"[{host}]" if ":" in host else host
        authority = shown if url.port is None else f"{shown}:{url.port}"
        if secure:
            origin = Origin(host, url.port or 443, tls_context(ca_file), proxy)
        else:  # it is on this machine, which no proxy reaches
            origin = Origin(host, url.port or 80, None)
        prefix = url.path.rstrip("/")
        return cls(origin, f"{url.scheme}://{authority}{prefix}", authority, prefix, url.query.encode("ascii"))


def joined_queries(base: bytes, own: bytes) -> bytes:
    """The base URL's query, then the call's own. Either may be empty."""
    return base + b"&" + own if base and own else base or own
