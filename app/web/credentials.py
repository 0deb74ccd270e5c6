"""Who asks on the ordinary routes: a client with its key, an operator with the admin key."""

import hmac
import ipaddress
from typing import Annotated

from fastapi import Depends, Request

from app.domain.errors import ApiError, AuthenticationFailed
from app.gateway.gateway import Ticket
from app.web.connection.request_rules import host_name

_PROXY_HEADERS = frozenset(("forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip", "cdn-loop"))


def _authorization(request: Request) -> bytes | None:
    value = request.headers.get("authorization")
    return None if value is None else value.encode("latin-1")


def client_ticket(request: Request) -> Ticket:
    """The caller's client. Raises AuthenticationFailed."""
    ticket: Ticket = request.app.state.gateway.admit(_authorization(request))
    return ticket


def require_admin(request: Request) -> None:
    """Pass the holder of the admin key. Raises AuthenticationFailed."""
    given = _authorization(request) or b""
    scheme, _, key = given.partition(b" ")
    wanted: bytes = request.app.state.admin_key.encode("ascii")
    key = key.strip()
    if scheme.lower() != b"bearer" or not key or not hmac.compare_digest(key, wanted):
        message = "This needs the admin key: `Authorization: Bearer` and what is in the state directory's admin-key."
        raise AuthenticationFailed(message)


def require_admin_or_loopback(request: Request) -> None:
    """Pass who asks from this machine for this machine, without going through a proxy; or holds the admin key.

    A proxy beside us passes the whole world's requests on from a loopback address. It shows by what it adds; by the
    Host, where that is passed on; and a bare one, as nginx is unless told otherwise, by its HTTP/1.0. A key that is
    shown is checked.
    """
    client = request.scope.get("client")
    keyed = "authorization" in request.headers
    direct = (
        not (_is_forwarded(request) or keyed) and request.scope["http_version"] == "1.1" and _names_loopback(request)
    )
    if client is not None and direct and _is_loopback(client[0]):
        return
    require_admin(request)


def is_local(request: Request) -> bool:
    """Whether the request came by the Unix socket, from this process, or from a loopback address without a proxy."""
    client = request.scope.get("client")
    return not client or (_is_loopback(client[0]) and not _is_forwarded(request))


def is_operator(request: Request) -> bool:
    """Whether require_admin_or_loopback() would pass this caller."""
    try:
        require_admin_or_loopback(request)
    except AuthenticationFailed:
        return False
    return True


def require_any_key(request: Request) -> None:
    """Pass the holder of the admin key or of a client's."""
    try:
        require_admin(request)
    except ApiError:
        client_ticket(request)


def _is_forwarded(request: Request) -> bool:
    return any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in request.headers)


def _names_loopback(request: Request) -> bool:
    name = host_name(request.headers.get("host", "").encode("latin-1")).decode("latin-1")
    return name == "localhost" or _is_loopback(name.strip("[]"))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


Caller = Annotated[Ticket, Depends(client_ticket)]
