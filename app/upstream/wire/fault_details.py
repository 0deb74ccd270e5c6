"""Tells operators why upstream could not be reached: the address, and the system's own message."""

import os
import socket
import ssl

from app.upstream.wire.target import Origin


def unreachable_detail(error: Exception, origin: Origin, seconds: float) -> str:
    """One sentence. `seconds` is the connect timeout. A failure on the way to a proxy names the proxy."""
    host, port = origin.first_hop.host, origin.first_hop.port
    where = f"{host}:{port}"
    match error:
        case TimeoutError() if error.errno is None:
            return f"Connecting to {where} took longer than {seconds:g} seconds."
        case ssl.SSLError():
            return _tls_detail(error, f"{origin.host}:{origin.port}")
        case socket.gaierror():
            return f"The host name {host} could not be resolved: {_ended(error.strerror)}"
        case OSError():
            known = error.errno is not None and error.errno > 0
            reason = os.strerror(error.errno or 0) if known else str(error) or type(error).__name__
            return f"Connecting to {where} failed: {_ended(reason)}"
    return f"The host name {host} is not valid."


def _tls_detail(error: ssl.SSLError, where: str) -> str:
    """The library's name of the error in words: `WRONG_VERSION_NUMBER` means a server that does not speak TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The certificate of {where} could not be verified: {_ended(error.verify_message)}"
    reason = (error.reason or type(error).__name__).replace("_", " ").lower()
    return f"The TLS handshake with {where} failed: {_ended(reason)}"


def _ended(text: str | None) -> str:
    return f"{(text or 'no reason is given').rstrip('.')}."
