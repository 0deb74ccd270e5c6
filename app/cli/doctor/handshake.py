"""Sends the running gateway what client programs send, and judges its answer.

The key is not allowed any model that exists. So the gateway reads a call, body and headers, and then refuses it with
403 `model_not_allowed`. That refusal is the expected answer.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from app.cli.doctor.finding import Finding, fail, ok, warn

SECONDS = 10.0
BUSY = frozenset((429, 503))
JSON = "application/json"

Headers = Mapping[str, str]


@dataclass(slots=True, frozen=True)
class Answer:
    """An answer of the gateway."""

    status: int
    headers: Headers
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The body if it is a JSON object; else empty."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def error(self) -> dict[str, Any]:
        """The `error` of the body."""
        found = self.fields.get("error")
        return found if isinstance(found, dict) else {}

    @property
    def summary(self) -> str:
        """The status and the error's message."""
        message = str(self.error.get("message", ""))[:200]
        return f"HTTP {self.status}: {message}" if message else f"HTTP {self.status}"


@dataclass(slots=True, frozen=True)
class RunningGateway:
    """The running gateway, as a client with a key sees it. `base_url` ends before `/responses`."""

    base_url: str
    key: str
    model: str

    def connection(self) -> HTTPConnection:
        """A new connection."""
        parts = urlsplit(self.base_url)
        return HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)

    def ask(self, method: str, path: str, headers: Headers, body: bytes | None = None, *, key: bool = True) -> Answer:
        """Send one request with exactly these headers. Raises OSError or HTTPException."""
        with closing(self.connection()) as connection:
            self.send(connection, method, path, headers, body, key=key)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, b"" if answer.status == 101 else answer.read())

    def send(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        headers: Headers,
        body: bytes | None,
        *,
        key: bool = True,
    ) -> None:
        """Send a request without reading the answer."""
        connection.putrequest(method, urlsplit(self.base_url).path + path, skip_accept_encoding=True)
        sent = {**({"authorization": f"Bearer {self.key}"} if key else {}), **headers}
        if body is not None:
            sent["content-length"] = str(len(body))
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders(body)

    def question(self, **more: Any) -> bytes:  # noqa: ANN401 - JSON
        """The body of a call."""
        return json.dumps({"model": self.model, "input": "Say hello.", "max_output_tokens": 16, **more}).encode()


def check_call(gateway: RunningGateway, check: str, headers: Headers, body: bytes) -> Iterator[Finding]:
    """Send a program's call. The gateway must read it, and refuse its model in a form that SDKs understand."""
    answer = gateway.ask("POST", "/responses", {"content-type": JSON, **headers}, body)
    if problem := _misunderstood(answer):
        yield (
            warn(check, problem)
            if answer.status in BUSY
            else fail(check, problem, "see `weighbridge usage` and the log")
        )
    else:
        yield ok(check, "accepted up to the model check, which refuses the test model as intended")


def _misunderstood(answer: Answer) -> str | None:
    """What is wrong with an answer that should refuse a model, or None."""
    error = answer.error
    detail = error.get("metadata")
    kind = detail.get("error_type") if isinstance(detail, dict) else None
    if answer.status != 403 or kind != "model_not_allowed":
        return f"the gateway does not handle this call correctly ({answer.summary})"
    if not answer.headers.get("content-type", "").startswith(JSON):
        return "the error is not sent as JSON"
    # OpenAI's SDKs read message, type and param; OpenRouter's require a number as code.
    if not (isinstance(error.get("message"), str) and isinstance(error.get("type"), str) and "param" in error):
        return "the error's body is not what OpenAI's SDKs read"
    if not isinstance(error.get("code"), int):
        return "the error's code is not a number, which OpenRouter's SDKs require"
    return None


def unreachable(check: str, error: Exception) -> Finding:
    """The finding for a request that got no answer."""
    said = str(error) or type(error).__name__
    return fail(check, f"no answer: {said}", "check that the server still runs, and read its log")


BROKEN = (OSError, HTTPException)
"""What a request may raise."""
