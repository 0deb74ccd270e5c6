"""Makes all httpx2 clients, for everything that is not the hot path."""

from pathlib import Path
from typing import Any

import httpx2

from app.upstream.api.in_process import InProcessTransport
from app.upstream.wire.pool import WireTimeouts
from app.upstream.wire.target import Target
from app.upstream.wire.transport import WireTransport

HttpClient = httpx2.AsyncClient
HttpAnswer = httpx2.Response
Unreachable = httpx2.RequestError  # also an answer whose content coding is broken


def socket_client(socket_path: Path, headers: dict[str, str]) -> HttpClient:
    """A client of an HTTP server on a Unix socket."""
    transport = httpx2.AsyncHTTPTransport(uds=str(socket_path))
    return HttpClient(transport=transport, base_url="http://localhost", headers=headers, trust_env=False, timeout=60)


def in_process_client(app: Any, headers: dict[str, str]) -> HttpClient:  # noqa: ANN401 - any ASGI application
    """A client of an application in this process, without a socket. It reads answers as they are made."""
    transport = InProcessTransport(app)
    return HttpClient(transport=transport, base_url="http://localhost", headers=headers, trust_env=False, timeout=60)


def upstream_client(target: Target, key: str, *, timeout_seconds: float = 10.0) -> HttpClient:
    """A client of an upstream's ordinary routes, below its base URL. It follows no redirect.

    The transport adds the base URL's query, if there is one, to every request.
    """
    transport = WireTransport(target, WireTimeouts(timeout_seconds, timeout_seconds, timeout_seconds))
    headers = {"authorization": f"Bearer {key}", "accept": "application/json", "accept-encoding": "identity"}
    return HttpClient(transport=transport, base_url=target.url, headers=headers, trust_env=False)
