"""Issue 12, E14: who sends 50 MB that are refused reads the whole refusal, and no reset."""

import pytest

from tests.e2e.client import dial
from tests.e2e.program import Gateway
from tests.edges.raw_client import ours, read_answers, request

SIZE = 50_000_000
HEAD = b"POST /v1/responses HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\nContent-Type: application/json\r\n%b\r\n"


def refused(gateway: Gateway, head: bytes, chunked: bool = False) -> tuple[int, str]:
    """Send it all, and only then read: as blocking clients do."""
    piece = b" " * 1_000_000
    with dial(gateway.url) as client:
        client.settimeout(20)
        client.sendall(head)
        for _ in range(SIZE // len(piece)):
            client.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        raw = b""
        while came := client.recv(65_536):
            raw += came
    _, answers = read_answers(raw)
    ours(answers[0])
    return answers[0].status, answers[0].error_type


@pytest.mark.parametrize(
    ("host", "key", "expected"),
    [
        (b"localhost", True, (413, "payload_too_large")),
        (b"localhost", False, (401, "authentication")),
        (b"evil.example", True, (421, "misdirected_request")),
    ],
)
def test_the_refusal_of_a_large_body_arrives(
    gateway: Gateway, host: bytes, key: bool, expected: tuple[int, str]
) -> None:
    authorization = b"Authorization: Bearer %b\r\n" % gateway.key.encode() if key else b""
    assert refused(gateway, HEAD % (host, SIZE, authorization)) == expected


def test_so_does_that_of_one_in_chunks(gateway: Gateway) -> None:
    head = request(gateway.key, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    assert refused(gateway, head, chunked=True) == (413, "payload_too_large")
