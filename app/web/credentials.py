"""Who calls an ordinary route: a client with its key, or an operator with the admin key."""

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
    """The ticket of the calling client. Raises AuthenticationFailed."""
    ticket: Ticket = request.app.state.gateway.admit(_authorization(request))
    return ticket


def require_admin(request: Request) -> None:
    """Raise AuthenticationFailed unless the caller holds the admin key."""
    given = _authorization(request) or b""
    scheme, _, key = given.partition(b" ")
    wanted: bytes = request.app.state.admin_key.encode("ascii")
    key = key.strip()
    if scheme.lower() != b"bearer" or not key or not hmac.compare_digest(key, wanted):
        message = (
            "This needs the admin key. Send it as `Authorization: Bearer KEY`; "
            "it is in the file admin-key of the state directory."
        )
        raise AuthenticationFailed(message)


def require_admin_or_loopback(request: Request) -> None:
    """Raise AuthenticationFailed unless the caller holds the admin key, or is on this machine and not behind a proxy.

    A proxy on this machine forwards requests of other machines from a loopback address. We recognize it by the headers
    that it adds, by a Host that is not loopback, or by HTTP/1.0, which nginx sends unless told otherwise. A key that
    the caller sends is checked in any case.
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
    """Whether the request came by the Unix socket, from this process, or from a loopback address and no proxy."""
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
    """Raise AuthenticationFailed unless the caller holds the admin key or a client's key."""
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
