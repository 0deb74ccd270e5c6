"""A response id of more than 256 characters (a gateway as upstream makes 445) became null, and a call in the background
with one was never looked up.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

import pytest

from tests.conftest import GatewayStarter
from tests.e2e.client import ASK
from tests.e2e.program import eventually

USAGE = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


class Background(BaseHTTPRequestHandler):
    """Takes every call into the background; who asks for the response finds it done."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._say({"id": self.headers["x-title"], "object": "response", "status": "queued", "usage": None})

    def do_GET(self) -> None:
        id_ = unquote(self.path.rpartition("/")[2])
        self._say({"id": id_, "object": "response", "status": "completed", "model": "gpt-5.5", "usage": USAGE})

    def _say(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Background)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_they_are_kept_found_and_looked_up(start_gateway: GatewayStarter, upstream: str) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=upstream)
    long, longest, too_long = "resp_" + "a" * 440, "resp_" + "b" * 2043, "resp_" + "c" * 4000
    for id_ in (long, longest, too_long):
        assert gateway.post({**ASK, "background": True}, {"x-title": id_}).json["id"] == id_
    ids = [record["response_id"] for record in gateway.records()]
    assert ids[:2] == [long, longest]
    assert ids[2].startswith("sha256:")

    def found(id_: str) -> list[dict[str, Any]]:
        answer = gateway.admin("GET", f"/usage?request={quote(id_)}")
        return [json.loads(line) for line in answer.body.splitlines()]

    for number, id_ in enumerate((long, longest, too_long)):
        assert [record["request_id"] for record in found(id_)] == [gateway.records()[number]["request_id"]]
    for id_ in (long, longest):
        eventually(lambda id_=id_: found(id_)[0]["usage_source"] == "settled", "the usage")  # type: ignore[misc]
        assert found(id_)[0]["total_tokens"] == 18
    assert found("resp_nothing") == []
    longer = "resp_" + "d" * 20_000
    gateway.post({**ASK, "background": True}, {"x-title": longer})
    record = json.loads(gateway.command("usage", "--request", longer, "--json").stdout)
    assert record["response_id"].startswith("sha256:")
