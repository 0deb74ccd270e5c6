"""Ignores a client's `Upgrade`, as RFC 9110 7.8 allows: the request is served as HTTP/1.1.

Java's HTTP client offers h2c with each first request. llhttp takes every byte behind such a head for the other
protocol. It would lose the body, or take a body that arrives later for a request. So the head is parsed a second time,
without the offer.
"""

import httptools

from app.domain.headers import Headers


def head_without_offer(parser: httptools.HttpRequestParser, target: bytes, headers: Headers) -> bytes:
    """The head that `parser` has just read, without its `Upgrade`."""
    lines = [b"%b %b HTTP/%b" % (parser.get_method(), target, parser.get_http_version().encode("ascii"))]
    lines += [name + b": " + value for name, value in headers if name != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
