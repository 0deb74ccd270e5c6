"""Requests that are not what they seem: each must get one answer, an error of ours, and the connection ends with it.

`@KEY@` stands for a good key. What a row smuggles would, if anyone took it for a request, reach upstream and be seen.
"""

BODY = b'{"model":"m","stream":true}'
SIZE = b"%d" % len(BODY)
MARK = b"x-smuggled: yes"
SMUGGLED = (
    b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer @KEY@\r\n"
    b"Content-Type: application/json\r\n" + MARK + b"\r\nContent-Length: " + SIZE + b"\r\n\r\n" + BODY
)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LINE = b"POST /v1/responses HTTP/1.1"
Refusal = tuple[bytes, int, str]


def raw(
    *headers: bytes,
    body: bytes = BODY,
    line: bytes = LINE,
    host: bytes | None = b"Host: localhost",
    end: bytes = b"\r\n",
) -> bytes:
    """A request with these headers beside a good key and type."""
    fixed = [line, *([host] if host is not None else [])]
    fixed += [b"Authorization: Bearer @KEY@", b"Content-Type: application/json"]
    return end.join([*fixed, *headers, b"", b""]) + body


def sized(*headers: bytes, line: bytes = LINE, host: bytes | None = b"Host: localhost", end: bytes = b"\r\n") -> bytes:
    """The same with a proper length."""
    return raw(b"Content-Length: " + SIZE, *headers, line=line, host=host, end=end)


def length(value: bytes) -> bytes:
    return raw(b"Content-Length: " + value)


def coded(value: bytes, body: bytes = CHUNKED + SMUGGLED) -> bytes:
    return raw(b"Transfer-Encoding: " + value, body=body)


def in_chunks(body: bytes) -> bytes:
    return raw(b"Transfer-Encoding: chunked", body=body + SMUGGLED)


def endless(body: bytes) -> bytes:
    return raw(b"Transfer-Encoding: chunked", body=body)


def asking(line: bytes) -> bytes:
    return sized(line=line)


def host(value: bytes) -> bytes:
    return sized(host=b"Host: " + value)


_BAD, _FOREIGN, _LARGE = (400, "invalid_request"), (421, "misdirected_request"), (431, "headers_too_large")

MALFORMED: dict[str, bytes] = {
    # two readings of where the body ends
    "length, then chunks": raw(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunks, then length": raw(b"Transfer-Encoding: chunked", b"Content-Length: 6", body=b"0\r\n\r\n" + SMUGGLED),
    "length 0 and chunks": raw(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=CHUNKED + SMUGGLED),
    "gzip, chunked": coded(b"gzip, chunked"),
    "chunked, gzip": coded(b"chunked, gzip"),
    "chunked, chunked": coded(b"chunked, chunked"),
    "chunked, identity": coded(b"chunked, identity"),
    "chunked twice": raw(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKED),
    "identity": coded(b"identity"),
    "xchunked": coded(b"xchunked"),
    "chunked with a parameter": coded(b"chunked;q=1"),
    "chunked in quotes": coded(b'"chunked"'),
    "chunked and a vertical tab": coded(b"chunked\x0b"),
    "chunked and a NUL": coded(b"chunked\0"),
    "an empty coding": coded(b""),
    "chunked, folded": coded(b"\r\n chunked"),
    "a coding with a space before the colon": raw(b"Transfer-Encoding : chunked", body=CHUNKED + SMUGGLED),
    "a coding on a line that is indented": raw(b" Transfer-Encoding: chunked", body=CHUNKED + SMUGGLED),
    # lengths
    "two lengths": raw(b"Content-Length: 5", b"Content-Length: " + SIZE),
    "the same length twice": raw(b"Content-Length: " + SIZE, b"Content-Length: " + SIZE),
    "a list of lengths": length(SIZE + b", " + SIZE),
    "a negative length": length(b"-5"),
    "a length with a plus": length(b"+" + SIZE),
    "a length in hex": length(b"0x1b"),
    "a fraction of a length": length(b"27.0"),
    "a length with a space": length(b"2 7"),
    "a length with an underscore": length(b"2_7"),
    "an endless length": length(b"9" * 30),
    "an empty length": length(b""),
    "a length in words": length(b"many"),
    # chunks
    "a negative chunk": in_chunks(b"-1\r\n"),
    "a chunk with a plus": in_chunks(b"+5\r\nhello\r\n0\r\n\r\n"),
    "a chunk with 0x": in_chunks(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk without a size": in_chunks(b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk size over 64 bits": in_chunks(b"1" + b"0" * 16 + b"\r\nhello\r\n"),
    "a chunk longer than it says": in_chunks(b"3\r\nhello\r\n0\r\n\r\n"),
    "a chunk size ended by a bare LF": in_chunks(b"5\nhello\r\n0\r\n\r\n"),
    "a chunk ended by a bare LF": in_chunks(b"5\r\nhello\n0\r\n\r\n"),
    "a chunk ended by a bare CR": in_chunks(b"5\r\nhello\r0\r\n\r\n"),
    "a chunk extension with a bare LF": in_chunks(b"5;a\nhello\r\n0\r\n\r\n"),
    "a chunk extension with a bare CR": in_chunks(b"5;a\rhello\r\n0\r\n\r\n"),
    "a length in the trailers": in_chunks(CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n"),
    "a trailer that is no header": in_chunks(CHUNKED[:-2] + b"no header\r\n\r\n"),
    # lines and headers
    "bare LF everywhere": sized(end=b"\n"),
    "bare CR everywhere": sized(end=b"\r"),
    "a bare CR in a header": sized(b"x: a\rx-b: c"),
    "a bare LF in a header": sized(b"x: a\nx-b: c"),
    "CR CR LF": sized(b"x: a\r"),
    "a NUL in a header": sized(b"x: a\0b"),
    "a NUL in a name": sized(b"x\0y: a"),
    "a folded header": sized(b"x: a", b" b"),
    "a folded host": sized(host=b"Host: localhost\r\n evil"),
    "a header without a colon": sized(b"nonsense"),
    "a header without a name": sized(b": nothing"),
    "a space in a name": sized(b"x y: a"),
    "a space before a colon": sized(b"x : a"),
    "a bracket in a name": sized(b"x(y): a"),
    "a name beyond ASCII": sized("x-ü: a".encode()),
    "a line before the headers that is indented": raw(line=LINE + b"\r\n x: y"),
    "two hosts": sized(b"Host: evil.example"),
    "the same host twice": sized(b"Host: localhost"),
    "no host": sized(host=None),
    "two authorizations": sized(b"Authorization: Bearer other"),
    "two content types": sized(b"Content-Type: text/plain"),
    "two content codings": sized(b"Content-Encoding: gzip", b"Content-Encoding: identity"),
    # request lines
    "no version": asking(b"POST /v1/responses"),
    "HTTP/2.0": asking(b"POST /v1/responses HTTP/2.0"),
    "HTTP/1.2": asking(b"POST /v1/responses HTTP/1.2"),
    "HTTP/1.10": asking(b"POST /v1/responses HTTP/1.10"),
    "HTTP/9.9": asking(b"POST /v1/responses HTTP/9.9"),
    "http/1.1": asking(b"POST /v1/responses http/1.1"),
    "HTTPS/1.1": asking(b"POST /v1/responses HTTPS/1.1"),
    "a tab in the line": asking(b"POST\t/v1/responses\tHTTP/1.1"),
    "a space in the target": asking(b"POST /v1/resp onses HTTP/1.1"),
    "a NUL in the target": asking(b"POST /v1/responses\0 HTTP/1.1"),
    "a bare CR in the line": asking(b"POST /v1/responses\r HTTP/1.1"),
    "no target": asking(b"POST HTTP/1.1"),
    "a target that is no path": asking(b"POST v1/responses HTTP/1.1"),
    "a target that is a star": asking(b"POST * HTTP/1.1"),
    "a target that is a URL": asking(b"POST http://localhost/v1/responses HTTP/1.1"),
    "a target of another server": asking(b"POST http://evil.example/v1/responses HTTP/1.1"),
    "a target that is a place": asking(b"POST localhost:80 HTTP/1.1"),
    "CONNECT": asking(b"CONNECT localhost:443 HTTP/1.1"),
    "CONNECT with a path": asking(b"CONNECT /v1/responses HTTP/1.1"),
    "a method in small letters": asking(b"post /v1/responses HTTP/1.1"),
    "a method nobody knows": asking(b"BREW /v1/responses HTTP/1.1"),
    "a method of 10 KB": asking(b"P" * 10_000 + b" /v1/responses HTTP/1.1"),
    "a method with a colon": asking(b"PO:ST /v1/responses HTTP/1.1"),
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(64),
    "an answer": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "nothing but NULs": bytes(200),
    "a proxy's preface": b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n" + sized(),
}
"""400, each."""

REFUSED: dict[str, Refusal] = {
    **{name: (request, *_BAD) for name, request in MALFORMED.items()},
    "a foreign host": (host(b"evil.example"), *_FOREIGN),
    "a host that begins like ours": (host(b"localhost.evil.example"), *_FOREIGN),
    "a host that begins like our address": (host(b"127.0.0.1.evil.example"), *_FOREIGN),
    "a host with a user": (host(b"localhost@evil.example"), *_FOREIGN),
    "a host with our user": (host(b"evil.example@localhost"), *_FOREIGN),
    "a host with a path": (host(b"localhost/v1/responses?"), *_FOREIGN),
    "a host with a question": (host(b"localhost?"), *_FOREIGN),
    "a host with a fragment": (host(b"localhost#"), *_FOREIGN),
    "a list of hosts": (host(b"localhost, evil.example"), *_FOREIGN),
    "a port that is none": (host(b"localhost:http"), *_FOREIGN),
    "two ports": (host(b"localhost:80:90"), *_FOREIGN),
    "an empty host": (host(b""), *_FOREIGN),
    "a bracket left open": (host(b"[::1"), *_FOREIGN),
    "a host beyond ASCII": (host(b"localhost\xe2\x80\xa8"), *_FOREIGN),
    "headers of 70 KB": (sized(*(b"x-%d: %b" % (n, b"a" * 1000) for n in range(70))), *_LARGE),
    "one header of 70 KB": (sized(b"x: " + b"a" * 70_000), *_LARGE),
    "a header that never ends": (sized()[: -len(BODY) - 2] + b"x: " + b"a" * 200_000, *_LARGE),
    "a name that never ends": (sized()[: -len(BODY) - 2] + b"a" * 200_000, *_LARGE),
    "257 headers": (sized(*(b"x-%d: a" % n for n in range(253))), *_LARGE),
    "short headers without an end": (sized()[: -len(BODY) - 2] + b"a:\r\n" * 300, *_LARGE),
    "257 trailers": (endless(CHUNKED[:-2] + b"a: b\r\n" * 257 + b"\r\n"), *_LARGE),
    "trailers of 70 KB": (endless(CHUNKED[:-2] + b"a: b%b\r\n" % (b"c" * 1000) * 70), *_LARGE),
    "a trailer that never ends": (endless(CHUNKED[:-2] + b"a: " + b"b" * 70_000), *_LARGE),
    "a chunk extension of 70 KB": (endless(b"5;" + b"a" * 70_000), *_LARGE),
    "chunk extensions of 100 KB": (endless((b"1;" + b"a" * 1000 + b"\r\n \r\n") * 100), *_LARGE),
    "line ends for ever": (b"\r\n" * 100_000, *_LARGE),
    "a target of 9 KB": (asking(b"POST /v1/responses?" + b"a" * 9_000 + b" HTTP/1.1"), *_LARGE),
    "a target of 70 KB": (asking(b"POST /v1/responses?" + b"a" * 70_000 + b" HTTP/1.1"), *_LARGE),
    "a length of 2 GB": (length(b"2000000000"), 413, "payload_too_large"),
    "chunks over the limit": (
        raw(b"Transfer-Encoding: chunked", body=b"10000\r\n%b\r\n" % bytes(65_536) * 32 + SMUGGLED),
        413,
        "payload_too_large",
    ),
    "a key in the trailers": (
        in_chunks(CHUNKED[:-2] + b"Authorization: Bearer @KEY@\r\n\r\n").replace(
            b"Authorization: Bearer @KEY@\r\n", b"", 1
        ),
        401,
        "authentication",
    ),
}
"""Name -> the request, and the status and error_type due."""

UNFINISHED: dict[str, tuple[bytes, bool]] = {
    "HTTP/0.9": (b"GET /v1/responses\r\n", True),
    "half a head": (sized()[:60], True),
    "a body that is short": (sized()[:-5], True),
    "chunks without an end": (raw(b"Transfer-Encoding: chunked", body=CHUNKED[:-5]), True),
    "nothing": (b"", False),
    "half a line end": (b"\r", False),
}
"""Not whole, and whether a request has begun: then the answer is 408. The connection is closed when its time is up."""

WELL_FORMED: dict[str, bytes] = {
    "as it should be": sized(),
    "a line end before it": b"\r\n" + sized(),
    "in chunks": raw(b"Transfer-Encoding: chunked", body=CHUNKED),
    "in chunks, in capitals": raw(b"TRANSFER-ENCODING: CHUNKED", body=CHUNKED),
    "in chunks with extensions": raw(
        b"Transfer-Encoding: chunked", body=b'%x;a=b;c="d"\r\n%b\r\n0;last\r\n\r\n' % (len(BODY), BODY)
    ),
    "in chunks with trailers": raw(
        b"Transfer-Encoding: chunked",
        body=CHUNKED[:-2] + b"Host: evil\r\nAuthorization: Bearer x\r\n" + MARK + b"\r\n\r\n",
    ),
    "in chunks of a byte": raw(
        b"Transfer-Encoding: chunked", body=b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    ),
    "a length with zeros": length(b"000" + SIZE),
    "256 headers": sized(*(b"x-%d: a" % n for n in range(252))),
    "headers of 60 KB": sized(*(b"x-%d: %b" % (n, b"a" * 1000) for n in range(59))),
    "256 trailers": raw(b"Transfer-Encoding: chunked", body=CHUNKED[:-2] + b"a: b\r\n" * 256 + b"\r\n"),
    "a host with a port": host(b"LOCALHOST:8787"),
    "a host as an address": host(b"127.0.0.1"),
    "a host in IPv6": host(b"[::1]:1"),
    "a host with its last dot": host(b"localhost."),
    "an upgrade nobody offers": sized(b"Connection: upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    "a connection that names its own headers": sized(b"Connection: authorization, x-a, close", b"X-A: b"),
    "a forwarded address": sized(b"X-Forwarded-For: 10.0.0.1", b"Forwarded: for=10.0.0.1;host=evil.example"),
    "another path in a header": sized(
        b"X-Original-URL: /admin", b"X-Rewrite-URL: /admin", b"X-HTTP-Method-Override: GET"
    ),
}
"""200, each, and upstream gets the one body."""
