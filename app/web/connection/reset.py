"""Connections that end hard: by us, so that a broken answer does not look complete, or by the client."""

import asyncio
import select
import socket
import struct

_LINGER_NOT = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Reset a connection, so that the client sees an error and not an end. Unsent bytes are lost."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


def has_hung_up(transport: asyncio.Transport) -> bool:
    """Whether the client has closed. Asyncio does not report this for a transport that is not reading."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return False
    look = select.poll()
    look.register(connection.fileno(), getattr(select, "POLLRDHUP", 0))  # errors are always reported
    return bool(look.poll(0))
