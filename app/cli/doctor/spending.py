"""Checks that cost money, on demand: one answer, one stream, one hang-up in a stream. Each asks for 16 tokens."""

from collections.abc import Iterator
from contextlib import closing
from time import perf_counter

from app.cli.doctor.finding import Finding, fail, ok
from app.cli.doctor.handshake import JSON, RunningGateway

SECONDS = 120.0
_HEADERS = {"content-type": JSON, "accept": "*/*"}
_NEXT_STEP = "see `weighbridge usage --client doctor-spend --by request`, and name another model with --model"


def check_answer(gateway: RunningGateway) -> Iterator[Finding]:
    """An answer in one piece, with its usage."""
    with closing(gateway.connection()) as connection:
        connection.timeout = SECONDS
        started = perf_counter()
        gateway.send(connection, "POST", "/responses", _HEADERS, gateway.question())
        answer = connection.getresponse()
        body = answer.read()
    if answer.status == 200 and b'"usage"' in body:
        yield ok("paid answer", f"{gateway.model} answers in {perf_counter() - started:.1f} s")
    else:
        yield fail("paid answer", f"HTTP {answer.status}: {body[:200].decode(errors='replace')}", _NEXT_STEP)


def check_stream(gateway: RunningGateway) -> Iterator[Finding]:
    """A stream that is read to its end."""
    with closing(gateway.connection()) as connection:
        connection.timeout = SECONDS
        started = perf_counter()
        gateway.send(connection, "POST", "/responses", _HEADERS, gateway.question(stream=True))
        answer = connection.getresponse()
        first = answer.read1(1)
        waited = perf_counter() - started
        body = first + answer.read()
    if answer.status == 200 and (b"response.completed" in body or b"response.incomplete" in body):
        yield ok("paid stream", f"begins after {waited:.1f} s, and ends as it should")
    else:
        yield fail(
            "paid stream",
            f"HTTP {answer.status}, and no proper end: {body[-200:].decode(errors='replace')}",
            _NEXT_STEP,
        )


def check_left_stream(gateway: RunningGateway) -> Iterator[Finding]:
    """A stream that the client leaves at its first byte, as Codex does. The gateway must go on serving."""
    with closing(gateway.connection()) as connection:
        connection.timeout = SECONDS
        gateway.send(connection, "POST", "/responses", _HEADERS, gateway.question(stream=True))
        answer = connection.getresponse()
        first = answer.read1(1)
    alive = gateway.ask("GET", "/key", {})
    if answer.status == 200 and first and alive.status == 200:
        yield ok("paid hang-up", "a stream can be left at its first byte")
    else:
        yield fail("paid hang-up", f"HTTP {answer.status}; then {alive.summary}", _NEXT_STEP)


CHECKS = (check_answer, check_stream, check_left_stream)
