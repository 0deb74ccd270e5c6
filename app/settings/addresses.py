"""Parsers of addresses. All raise ValueError with a message that does not repeat the input."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from app.domain.request.query import holds_credential

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Loopback names as a Host header has them, without the port."""

_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\.?", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_OWN_PORTS = {"http": 80, "https": 443}
_URL_TEXT = re.compile(r"[!-~]+", re.ASCII)
_ROUTES = ("/responses", "/chat/completions")
_KNOWN_PROVIDERS = {
    "openrouter.ai": "openrouter",
    "openai.com": "openai",
    "openai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "services.ai.azure.com": "azure",
}


def is_loopback(host: str) -> bool:
    """Whether a host can only be this machine: localhost, 127.0.0.0/8 or ::1. Nothing is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_host(value: str) -> str:
    """A host to listen on, in lower case; an IPv6 address without its brackets."""
    host = value.strip().lower()
    if host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1]):
        return host[1:-1]
    if _is_ipv6(host) or _HOST_NAME.fullmatch(host):
        return host
    raise ValueError("must be a host name or an IP address, without scheme or port")


def parse_host_header(value: str) -> str:
    """A name for the Host header, without the port: in lower case, an IPv6 address in brackets."""
    host = parse_host(value)
    return f"[{host}]" if _is_ipv6(host) else host


def parse_upstream_url(value: str) -> str:
    """The base URL of an upstream, normalised: no slash at the end of its path, scheme and host in lower case.

    It must be https unless the host is loopback, since the upstream key is sent there, and have no user info. A query
    is added to every call.
    """
    parts, host = _split(value)
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("must be a URL that starts with https://")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password")
    if "#" in value:
        raise ValueError("must not have a fragment")
    if holds_credential(parts.query.encode("ascii")):
        raise ValueError("must not hold a credential in its query: name the key by key_file or key_env")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must be https, since the upstream key goes there; plain http is for loopback hosts only")
    path = parts.path.rstrip("/")
    for route in _ROUTES:
        if path.lower().endswith(route):
            raise ValueError(f"must be the base URL, without {route} at its end: Weighbridge adds that itself")
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.lower()}{path}{query}"


def parse_proxy_url(value: str) -> str:
    """The address of an HTTP proxy: plain http, a host, a port, and optionally a user name. No password."""
    parts, host = _split(value)
    if (
        parts.scheme != "http"
        or not host
        or parts.port is None
        or parts.path not in {"", "/"}
        or set("?#") & set(value)
    ):
        raise ValueError("must be an address such as http://proxy.example.com:3128; only plain http proxies are used")
    if parts.password is not None:
        raise ValueError("must not hold the password: name the file that holds it by proxy_password_file")
    return f"http://{parts.netloc}"


def is_url(value: str, schemes: Sequence[str]) -> bool:
    """Whether a text is a URL of one of the schemes, in plain ASCII, with a valid host and port."""
    try:
        return value.startswith(tuple(f"{scheme}://" for scheme in schemes)) and bool(_split(value))
    except ValueError:
        return False


def parse_origin(value: str) -> str:
    """A web origin as browsers send it: scheme, host, and the port if it is not the scheme's default."""
    origin = value.strip().lower()
    scheme, mark, rest = origin.partition("://")
    if not mark or not _SCHEME.fullmatch(scheme) or not rest or "*" in rest or re.search(r"[/?#@]", rest):
        raise ValueError("must be origins such as https://app.example.com: scheme, host and port, no path and no *")
    parts, host = _split(origin)
    if not host:
        raise ValueError("must be origins such as https://app.example.com: scheme, host and port, no path and no *")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if parts.port in (None, _OWN_PORTS.get(scheme)) else f"{scheme}://{shown}:{parts.port}"


def parse_public_url(value: str) -> str:
    """The address of a server for its callers: scheme, host, and optionally a port."""
    parts, host = _split(value.strip().rstrip("/"))
    if parts.scheme not in {"http", "https"} or not host or parts.path or re.search(r"[?#@]", value):
        raise ValueError("must be an address such as https://gateway.example.com, without a path")
    return parse_origin(f"{parts.scheme}://{parts.netloc}")


def upstream_name(base_url: str) -> str:
    """The name of an upstream without a configured one: the provider's name if we know it, else the host."""
    host = urlsplit(base_url).hostname or ""
    for domain, name in _KNOWN_PROVIDERS.items():
        if host == domain or host.endswith("." + domain):
            return name
    return host


def _split(value: str) -> tuple[SplitResult, str]:
    if not _URL_TEXT.fullmatch(value) or "\\" in value:
        raise ValueError("must be a URL of plain ASCII characters, without spaces")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must be a URL with a valid host and port") from None
    good_host = not host or (_is_ipv6(host) and "%" not in host) or _HOST_NAME.fullmatch(host)
    if not good_host or port == 0:
        raise ValueError("must be a URL with a valid host and port")
    return parts, host


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
