"""Why a call failed stood only in its caller's body: every record and log line had the same `upstream_unreachable`."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, ASK_STREAM
from tests.e2e.program import Gateway, eventually
from tests.edges.fault_server import COMPLETED, EVENT, Act, FaultServer, deaf_port
from tests.edges.raw_client import request, say
from tests.upstream.raw_server import chunked, sized

JSON = b"content-type: application/json"
STREAM = b"content-type: text/event-stream"
SHORT = {"WEIGHBRIDGE_FIRST_BYTE_TIMEOUT": "0.3s", "WEIGHBRIDGE_IDLE_TIMEOUT": "0.3s"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def program(upstream: FaultServer, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("program")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=upstream.url, **SHORT) as running:
        yield running


def failed(gateway: Gateway, headers: dict[str, str] | None = None, asked: Any = ASK) -> dict[str, Any]:  # noqa: ANN401
    """The log line of a call that fails; its record says the same."""
    answer = say(gateway.url, request(gateway.key, asked, headers=headers)).only
    ours = answer.value("x-weighbridge-request-id")
    assert ours is not None
    record = gateway.record(ours)

    def written() -> list[dict[str, Any]]:
        return [json.loads(line) for line in gateway.process.err.splitlines() if ours in line]

    line = eventually(written, "the log line")[0]
    assert {name: line[name] for name in record} == record
    assert len(line["error_detail"]) <= 256
    return line


def test_a_name_that_does_not_resolve(start_gateway: GatewayStarter) -> None:
    line = failed(start_gateway(WEIGHBRIDGE_UPSTREAM_URL="https://nowhere.invalid/v1"))
    assert line["error_detail"].startswith("The host name nowhere.invalid could not be resolved: ")
    assert (line["level"], line["error_type"]) == ("warning", "upstream_unreachable")


def test_a_port_that_refuses(start_gateway: GatewayStarter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    line = failed(start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"http://127.0.0.1:{port}/v1"))
    assert line["error_detail"] == f"Connecting to 127.0.0.1:{port} failed: Connection refused."
    assert line["level"] == "warning"


def test_a_port_that_does_not_answer(start_gateway: GatewayStarter) -> None:
    with deaf_port() as port:
        gateway = start_gateway(
            WEIGHBRIDGE_UPSTREAM_URL=f"http://127.0.0.1:{port}/v1", WEIGHBRIDGE_CONNECT_TIMEOUT="0.2s"
        )
        line = failed(gateway)
    assert line["error_detail"] == f"Connecting to 127.0.0.1:{port} took longer than 0.2 seconds."


@contextlib.contextmanager
def serving(greet: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which each connection is greeted so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        greet(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_server_that_speaks_no_tls(start_gateway: GatewayStarter) -> None:
    with serving(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        line = failed(start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"https://127.0.0.1:{port}/v1"))
    assert line["error_detail"] == f"The TLS handshake with 127.0.0.1:{port} failed: wrong version number."


def test_a_certificate_that_nobody_trusts(start_gateway: GatewayStarter) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with serving(lambda connection: context.wrap_socket(connection, server_side=True).close()) as port:
        line = failed(start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"https://localhost:{port}/v1"))
    assert line["error_detail"].startswith(f"The certificate of localhost:{port} could not be verified: ")
    assert "issuer" in line["error_detail"]


REASONS: dict[str, tuple[Act, Any, str, str]] = {
    "no first byte": (Act((), "hold"), ASK, "Upstream did not answer for 0.3 seconds.", "warning"),
    "silence": (
        Act((b"HTTP/1.1 200 OK\r\n" + STREAM + b"\r\n\r\n" + EVENT,), "hold"),
        ASK_STREAM,
        "Upstream fell silent in mid-answer for 0.3 seconds.",
        "info",
    ),
    "closed": (
        Act((), "close"),
        ASK,
        "Upstream closed the connection before its answer was whole.",
        "warning",
    ),
    "no HTTP": (Act((b"SSH-2.0-OpenSSH\r\n",), "close"), ASK, "Upstream's answer is not HTTP: ", "warning"),
    "401": (
        Act((sized(b'{"error":{"message":"No."}}', JSON, status=b"401 No"),)),
        ASK, "Upstream answered HTTP 401: it does not accept this server's key.", "warning",
    ),
    "a provider's words": (
        Act((sized(json.dumps({"error": {"message": "Provider returned error", "code": 400, "metadata": {
            "raw": "max_tokens is too large: 1.", "provider_name": "OpenAI"}}}).encode(), JSON, status=b"400 No"),)),
        ASK, "Provider returned error (OpenAI: max_tokens is too large: 1.)", "info",
    ),
    "a redirect": (Act((sized(b"", b"location: /x", status=b"307 No"),)), ASK, "307", "warning"),
    "500 in HTML": (Act((sized(b"<html>", status=b"500 No"),)), ASK, "HTTP 500", "warning"),
    "400": (
        Act((sized(b'{"error":{"message":"No such\\nmodel: gpt-9.","code":"x"}}', JSON, status=b"400 No"),)),
        ASK,
        "No such model: gpt-9.",
        "info",
    ),
    "400 in text": (Act((sized(b"no", b"content-type: text/plain", status=b"400 No"),)), ASK, "HTTP 400", "info"),
    "a message without end": (
        Act((sized(b'{"error":{"message":"%b"}}' % (b"x" * 5000), JSON, status=b"400 No"),)),
        ASK,
        "x" * 253 + "...",
        "info",
    ),
    "a message with a key": (
        Act((sized(b'{"error":{"message":"Bad key sk-abcdefghijk."}}', JSON, status=b"400 No"),)),
        ASK,
        "Bad key ***.",
        "info",
    ),
    "a failed response": (
        Act((chunked(COMPLETED.replace(b'"usage"', b'"error":{"code":"c","message":"It broke."},"usage"').replace(
            b"completed", b"failed"), headers=(STREAM,)),)),
        ASK_STREAM, "It broke.", "info",
    ),
    "an error event": (
        Act((chunked(EVENT, b'data: {"type":"error","code":"c","message":"Too much."}\n\n', headers=(STREAM,)),)),
        ASK_STREAM, "Too much.", "info",
    ),
    "a stream that ends early": (
        Act((chunked(EVENT, headers=(STREAM,)),)),
        ASK_STREAM, "Upstream's stream ended without a terminal event.", "info",
    ),
    "a page": (
        Act((sized(b"<html>Sign in</html>", b"content-type: text/html"),)),
        ASK, "Upstream's answer is no response of the API.", "info",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_what_upstream_did(program: Gateway, upstream: FaultServer, name: str) -> None:
    act, asked, detail, level = REASONS[name]
    line = failed(program, upstream.play(act), asked)
    assert detail in line["error_detail"]
    assert line["level"] == level


def test_what_goes_well_has_none(program: Gateway) -> None:
    answer = say(program.url, request(program.key)).only
    record = program.record(answer.value("x-weighbridge-request-id") or "")
    assert (record["outcome"], record["error_detail"]) == ("completed", None)
