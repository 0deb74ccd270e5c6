"""Seeded damage: what a hostile or a broken peer makes of bytes that were fine. The same seed does the same damage."""

import random

HTTP_WORDS = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"0\r\n\r\n",
    b"ffffffff\r\n",
    b"-1",
    b"99999999999999999999",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Type: application/json\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: localhost\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\xff\xfe",
    b"\xe2\x80\xa8",
    b"%00",
    b"../",
    b"?",
    b"#",
)
JSON_WORDS = (
    b"{",
    b"}",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"]",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\u0022",
    b",",
    b":",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999999",
    b"9" * 5000,
    b'"model":"n",',
    b'"stream":false,',
    b'"model":{},',
    b'"stream":1,',
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xed\xa0\x80",
    b"\0",
    b"data: ",
    b"\n\n",
    b'"usage":{"input_tokens":-1},',
    b'"type":"response.completed",',
)


def damaged(data: bytes, words: tuple[bytes, ...], rng: random.Random) -> bytes:
    """One to six changes: bytes changed, removed, doubled, cut off; words put in; parts exchanged."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(content))
        until = min(len(content), at + rng.choice((1, 1, 2, 8, 64)))
        match rng.randrange(8):
            case 0:
                content[at:until] = bytes(rng.randrange(256) for _ in range(until - at))
            case 1:
                del content[at:until]
            case 2:
                content[at:at] = content[at:until] * rng.randint(1, 4)
            case 3:
                del content[at:]
            case 4 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 5:
                other = rng.randint(0, len(content))
                content[at:until], content[other : other + until - at] = (
                    content[other : other + until - at],
                    content[at:until],
                )
            case _:
                content[at:at] = rng.choice(words)
    return bytes(content)
