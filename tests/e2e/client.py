"""A client that sees everything: each byte as it comes, each header as it was sent, and whether the end was proper."""

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

SECONDS = 20
Body = bytes | Mapping[str, Any]
ASK: Mapping[str, Any] = {"model": "openai/gpt-5.1", "input": "Say hello."}
ASK_STREAM: Mapping[str, Any] = {**ASK, "stream": True}


@dataclass
class Answer:
    """What came back. `whole` is False when the connection ended before the body did."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = True

    def value(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)

    @property
    def request_id(self) -> str:
        value = self.value("x-request-id")
        assert value, "every answer has an x-request-id"
        return value

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)

    @property
    def error_type(self) -> str:
        """Of one of our own errors."""
        kind: str = self.json["error"]["metadata"]["error_type"]
        return kind


def encoded(body: Body) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


class OpenCall:
    """A call whose answer's head has come; `read` takes what there is of its body."""

    def __init__(self, response: http.client.HTTPResponse, close: Callable[[], None]) -> None:
        self._response = response
        self.close = close
        headers = [(name.lower(), value) for name, value in response.getheaders()]
        self.answer = Answer(response.status, headers)

    def read(self) -> bytes:
        """Some bytes; none at the end, proper or not (`answer.whole` tells)."""
        try:
            got = self._response.read1(65_536)
        except (http.client.IncompleteRead, ConnectionError):
            self.answer.whole = False
            return b""
        if not got and self._response.length:
            self.answer.whole = False
        self.answer.body += got
        return got

    def read_until(self, mark: bytes) -> None:
        while mark not in self.answer.body:
            assert self.read(), f"the answer ended before {mark!r}"

    def rest(self) -> Answer:
        while self.read():
            pass
        return self.answer


@contextlib.contextmanager
def opened(
    url: str, key: str | None, body: Body = ASK_STREAM, headers: Mapping[str, str] | None = None, method: str = "POST"
) -> Iterator[OpenCall]:
    """Call `url` (all of it) and give the open call; leaving the block hangs up."""
    parts = urlsplit(url)
    fixed = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, encoded(body) if method == "POST" else None, {**fixed, **(headers or {})})
        response = connection.getresponse()
        with contextlib.closing(response):
            yield OpenCall(response, connection.close)
    finally:
        connection.close()


def raw_request(key: str, body: Body, *, headers: Mapping[str, str] | None = None, version: str = "1.1") -> bytes:
    """The bytes of a POST /v1/responses."""
    content = encoded(body)
    lines = [
        f"POST /v1/responses HTTP/{version}",
        "Host: localhost",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def dial(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=SECONDS)


def receive(connection: socket.socket, until: bytes = b"") -> bytes:
    """Everything up to the end of the connection, or until this has come."""
    got = b""
    while not (until and until in got):
        piece = connection.recv(65_536)
        if not piece:
            break
        got += piece
    return got
