"""What a client program sends, sent again to the running gateway, and what the answer says about it.

The key may ask for no model that exists. So a call that the gateway has read whole, body and headers, is refused with
403 `model_not_allowed` and goes no further: that refusal is the good answer.
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
    """What came back."""

    status: int
    headers: Headers
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """Of a JSON object; nothing of anything else."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def error(self) -> dict[str, Any]:
        """The error that the body tells of."""
        found = self.fields.get("error")
        return found if isinstance(found, dict) else {}

    @property
    def said(self) -> str:
        """The status, and in words what it is about."""
        message = str(self.error.get("message", ""))[:200]
        return f"HTTP {self.status}: {message}" if message else f"HTTP {self.status}"


@dataclass(slots=True, frozen=True)
class RunningGateway:
    """The running gateway, as a client with a key sees it. `base_url` ends before `/responses`."""

    base_url: str
    key: str
    model: str

    def connection(self) -> HTTPConnection:
        """A new one."""
        parts = urlsplit(self.base_url)
        return HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)

    def ask(self, method: str, path: str, headers: Headers, body: bytes | None = None, *, key: bool = True) -> Answer:
        """One request, sent with these headers and no other of its own. Raises OSError or HTTPException."""
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
        """Send a request, and read nothing."""
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


def sent_call(gateway: RunningGateway, check: str, headers: Headers, body: bytes) -> Iterator[Finding]:
    """A call of a program, which must be read whole and then refused for its model, so that SDKs understand it."""
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
    """What is wrong with an answer that should refuse a model."""
    error = answer.error
    detail = error.get("metadata")
    kind = detail.get("error_type") if isinstance(detail, dict) else None
    if answer.status != 403 or kind != "model_not_allowed":
        return f"the gateway does not handle this call correctly ({answer.said})"
    if not answer.headers.get("content-type", "").startswith(JSON):
        return "the error is not sent as JSON"
    # OpenAI's SDKs read message, type and param; OpenRouter's take nothing but a number for a code.
    if not (isinstance(error.get("message"), str) and isinstance(error.get("type"), str) and "param" in error):
        return "the error's body is not what SDKs of OpenAI read"
    if not isinstance(error.get("code"), int):
        return "the error's code is no number, and OpenRouter's SDKs fail at that"
    return None


def unreachable(check: str, error: Exception) -> Finding:
    """The gateway did not answer a handshake."""
    said = str(error) or type(error).__name__
    return fail(check, f"no answer: {said}", "see whether the server still runs, and its log")


BROKEN = (OSError, HTTPException)
"""What asking raises."""
