"""A client that says any bytes at all, and reads the answers as strictly as the standard allows: nothing is guessed."""

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.e2e.client import ASK_STREAM, Answer, Body, encoded
from tests.e2e.client import dial as dial_patiently

PATIENCE_SECONDS = 10.0
"""How long anything may take before the test fails. Nothing waits that long when all is well."""

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*")
_HEADER = re.compile(rb"([a-z0-9!#$%&'*+.^_`|~-]+): ([^\0\r\n]*)")
_SIZE = re.compile(rb"[0-9a-f]{1,8}")
Ending = Literal["closed", "reset", "open"]


@dataclass
class Heard:
    """All that came on one connection. `open` is an ending, too: there was a whole answer and it stayed open."""

    raw: bytes
    ending: Ending
    seconds: float
    interim: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def only(self) -> Answer:
        assert len(self.answers) == 1, f"{len(self.answers)} answers: {self.raw[:2000]!r}"
        return self.answers[0]


def request(
    key: str,
    body: Body = ASK_STREAM,
    *,
    headers: Mapping[str, str] | None = None,
    target: str = "/v1/responses",
    method: str = "POST",
    host: str = "localhost",
) -> bytes:
    """A proper call, as bytes."""
    content = encoded(body)
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def say(url: str, *pieces: bytes, answers: int = 1, patience: float = PATIENCE_SECONDS) -> Heard:
    """Send it on a connection of its own, and hear what comes: until the end, or until so many answers are whole."""
    started = time.monotonic()
    raw = bytearray()
    ending: Ending = "closed"
    with dial_patiently(url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(patience)
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was refused before it was through; what was answered is there to be read
        try:
            while piece := connection.recv(262_144):
                raw += piece
                if is_enough(bytes(raw), answers):
                    ending = "open"
                    break
        except ConnectionResetError:
            ending = "reset"
        except TimeoutError:
            message = f"nothing more came for {patience:g} s: {bytes(raw[:2000])!r}"
            raise AssertionError(message) from None
        if ending == "open":
            ending = _closes_now(connection, raw)
    heard = Heard(bytes(raw), ending, time.monotonic() - started)
    heard.interim, heard.answers = read_answers(heard.raw)
    return heard


def _closes_now(connection: socket.socket, raw: bytearray) -> Ending:
    """Enough came. An answer that says `connection: close` must be followed by just that; another may be."""
    _, answers = read_answers(bytes(raw))
    if (answers[-1].value("connection") or "").lower() != "close":
        return "open"
    try:
        while piece := connection.recv(65_536):
            raw += piece
    except ConnectionResetError:
        return "reset"
    return "closed"


def is_enough(raw: bytes, answers: int) -> bool:
    _, found = read_answers(raw)
    return len(found) >= answers and found[answers - 1].whole


def read_answers(raw: bytes) -> tuple[int, list[Answer]]:
    """How many interim answers, and the others in order; only the last may be cut. Anything else is a failure."""
    interim, answers, rest = 0, list[Answer](), raw
    while rest:
        head, mark, after = rest.partition(b"\r\n\r\n")
        if not mark:
            assert b"HTTP/1.1 ".startswith(head[:9]), f"no answer: {rest[:200]!r}"
            answers.append(Answer(0, whole=False))
            break
        first, *lines = head.split(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        assert status, f"no status line: {rest[:200]!r}"
        pairs = [_HEADER.fullmatch(line) for line in lines]
        headers = [(pair[1].decode(), pair[2].decode("latin-1")) for pair in pairs if pair]
        assert len(headers) == len(lines), f"headers that are none: {head!r}"
        answer = Answer(int(status[1]), headers)
        if answer.status < 200:
            interim, rest = interim + 1, after
            continue
        rest = _read_body(answer, after)
        answers.append(answer)
    return interim, answers


def _read_body(answer: Answer, rest: bytes) -> bytes:
    """Fill in the body; what follows it is left over."""
    lengths = [value for name, value in answer.headers if name == "content-length"]
    codings = [value for name, value in answer.headers if name == "transfer-encoding"]
    assert (len(lengths), codings) in ((0, ["chunked"]), (1, []), (0, [])), answer.headers
    if answer.status in {204, 304} or not (lengths or codings):
        assert answer.status in {204, 304}, "an answer whose end nobody sees"
        return rest
    if lengths:
        size = int(lengths[0])
        answer.body, answer.whole = rest[:size], len(rest) >= size
        return rest[size:]
    pieces = []
    answer.whole = False
    while True:
        line, mark, after = rest.partition(b"\r\n")
        if not mark:
            rest = b""
            break
        assert _SIZE.fullmatch(line), f"no chunk size: {line[:100]!r}"
        size = int(line, 16)
        pieces.append(after[:size])
        rest = after[size + 2 :]
        if size == 0:
            assert after.startswith(b"\r\n"), f"trailers: {after[:100]!r}"
            answer.whole = True
            break
        if len(after) < size + 2:
            rest = b""
            break
        assert after[size : size + 2] == b"\r\n"
    answer.body = b"".join(pieces)
    return rest


def ours(answer: Answer) -> dict[str, Any]:
    """Assert the one error body of the contract; gives its `error`."""
    assert answer.whole
    assert answer.value("content-type") == "application/json"
    document = answer.json
    assert list(document) == ["error"]
    error: dict[str, Any] = document["error"]
    assert set(error) == {"code", "message", "type", "param", "metadata"}
    assert error["code"] == answer.status
    assert error["metadata"] == {"error_type": answer.error_type, "request_id": answer.request_id}
    return error
