"""A connection's hard end: one that we make, since a proper end would make an answer look whole, or a client's."""

import asyncio
import select
import socket
import struct

_LINGER_NOT = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close a connection so that the client sees an error and not an end. What is not sent yet is lost."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


def has_hung_up(transport: asyncio.Transport) -> bool:
    """Has the client closed? A transport that is not reading never says so."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return False
    look = select.poll()
    look.register(connection.fileno(), getattr(select, "POLLRDHUP", 0))  # errors are always told
    return bool(look.poll(0))
