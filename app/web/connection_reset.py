"""Breaking an answer off that only the connection's end would end: a proper end would make it look whole."""

import asyncio
import socket
import struct

_LINGER_NOT = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close a connection so that the client sees an error and not an end. What is not sent yet is lost."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()
