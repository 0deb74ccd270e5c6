"""An offered change of protocol, declined as RFC 9110 7.8 has it: the request is served as if nothing had been offered.

Java's HTTP client offers h2c with each first request. llhttp takes every byte behind such a head for the other
protocol, so the body would be lost, or, coming in a read of its own, be taken for a request: the head is read anew
without its offer.
"""

import httptools

from app.domain.headers import Headers


def head_without_offer(parser: httptools.HttpRequestParser, target: bytes, headers: Headers) -> bytes:
    """The head that `parser` has just read, less its `Upgrade`."""
    lines = [b"%b %b HTTP/%b" % (parser.get_method(), target, parser.get_http_version().encode("ascii"))]
    lines += [name + b": " + value for name, value in headers if name != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
