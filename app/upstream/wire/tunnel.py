"""Asks an HTTP proxy for a tunnel to upstream (CONNECT, RFC 9110, 9.3.6). TLS goes through it to upstream itself."""

import asyncio
import re
import socket

from app.upstream.wire.target import Origin, Proxy

MAX_HEAD_BYTES = 16 * 1024
"""The most bytes of the proxy's answer, interim answers included."""

_READ_BYTES = 4096
_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])( [^\r\n]*)?\r\n")


class TunnelRefusedError(OSError):
    """The proxy opens no tunnel. The message is for the caller, without addresses and credentials."""


async def open_tunnel(raw: socket.socket, proxy: Proxy, origin: Origin) -> None:
    """Ask on a connected socket, without a time limit. Raises TunnelRefusedError, or OSError if the proxy is gone."""
    await asyncio.get_running_loop().sock_sendall(raw, _request(proxy, origin))
    status, surplus = 0, b""
    budget = MAX_HEAD_BYTES
    while status < 200:
        head, surplus = await _head(raw, surplus, budget)
        budget -= len(head)
        status = _status_of(head)
    if status >= 300:
        reason = ", it wants other credentials" if status == 407 else ""
        raise TunnelRefusedError(f"The proxy opens no tunnel to upstream (HTTP {status}{reason}).")
    if surplus:  # TLS servers do not speak first
        raise TunnelRefusedError("The proxy sent bytes after its answer's head.")


async def _head(raw: socket.socket, came: bytes, most: int) -> tuple[bytes, bytes]:
    """The next head, and the bytes after it."""
    while (end := came.find(_END)) < 0:
        if len(came) > most:
            raise TunnelRefusedError("The proxy's answer is too large.")
        piece = await asyncio.get_running_loop().sock_recv(raw, _READ_BYTES)
        if not piece:
            raise TunnelRefusedError("The proxy closed the connection.")
        came += piece
    end += len(_END)
    return came[:end], came[end:]


def _request(proxy: Proxy, origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    authority = f"{host}:{origin.port}".encode("ascii")
    lines = [b"CONNECT %b HTTP/1.1" % authority, b"host: %b" % authority]
    if proxy.authorization:
        lines.append(b"proxy-authorization: " + proxy.authorization)
    return b"\r\n".join(lines) + _END


def _status_of(head: bytes) -> int:
    found = _STATUS.match(head)
    if found is None:
        raise TunnelRefusedError("The proxy's answer is not HTTP.")
    return int(found[1])
