"""The forwarding route: a raw ASGI endpoint. It bypasses FastAPI's middleware and router (100-220 us a call, measured).

It uses `receive` and `send` directly, so it sees a disconnect at every stage: while the body is read, while upstream is
silent, and in mid-stream.
"""

import asyncio
import contextlib
from typing import Any

from starlette.types import Receive, Scope, Send

from app.domain.errors import ApiError, Draining, InvalidRequest, UpgradeNotSupported
from app.domain.headers import Headers
from app.gateway.admission.body_memory import BodyMemory
from app.gateway.admission.call_facts import SMALL_BYTES, read_body, read_in_steps, reads_quickly
from app.gateway.admission.slices import AbandonedError
from app.gateway.exchange.ending import Ending
from app.gateway.exchange.exchange import Exchange
from app.gateway.gateway import Gateway
from app.web.doors.asgi_downstream import AsgiDownstream
from app.web.doors.request_body import ClientLeft, read_request
from app.web.errors import error_answer

PREFIXES = ("/api/v1", "/v1", "")
PATHS = frozenset(prefix + "/responses" for prefix in PREFIXES)

NOTE_SECONDS = 1.0
"""How long we wait for a small body of a call that we refuse because the server stops."""

_CLOSE: Headers = [(b"connection", b"close")]


class ResponsesEndpoint:
    """POST forwards a call. GET is Codex probing for WebSockets: 426 makes it use HTTP at once."""

    def __init__(self, gateway: Gateway, max_body_bytes: int, memory: BodyMemory) -> None:
        self._gateway = gateway
        self._max_body_bytes = max_body_bytes
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises only when the server should end the connection."""
        if scope["method"] != "POST":
            await self._not_post(scope, send)
            return
        values: dict[bytes, bytes] = dict(scope["headers"])  # request_rules refuses repeats of those we look up
        try:
            ticket = self._gateway.admit(_credential(values), scope["query_string"])
        except ApiError as error:
            await self._answer(scope, send, error, _CLOSE)  # the body is not read
            return
        downstream = AsgiDownstream(send, scope["headers"])
        exchange = self._gateway.open(ticket, "POST", scope["path"], downstream)
        downstream.exchange = exchange
        try:
            await self._serve(exchange, downstream, scope, values, receive)
        except BaseException:  # the server stops and its grace is over, or the answer could not be sent
            exchange.end_by(Ending.DOOR_FAILED)
            raise

    async def _serve(
        self,
        exchange: Exchange,
        downstream: AsgiDownstream,
        scope: Scope,
        values: dict[bytes, bytes],
        receive: Receive,
    ) -> None:
        full = self._gateway.room(exchange.record.client)
        try:
            if full is not None:
                if isinstance(full, Draining):
                    await self._note_model(exchange, values, receive)
                raise full
            client = exchange.record.client
            body, hold = await read_request(values, receive, self._max_body_bytes, self._memory, client)
            facts = None
            if not reads_quickly(body):
                exchange.record.bytes_in = len(body)
                facts = await read_in_steps(body, downstream.gone, self._memory.turn)
        except (ClientLeft, AbandonedError):
            exchange.leave()
            return
        except ApiError as error:
            exchange.reject(error)
            await downstream.run()
            return
        except asyncio.CancelledError:  # the server has stopped before the request was complete
            exchange.broken(Draining("This server has stopped. Try again in a moment."), 0)
            await downstream.run()
            return
        downstream.request_read = True
        self._gateway.send(exchange, "/responses", scope["headers"], body, facts, scope["query_string"], hold)
        del body, facts, hold  # the exchange has them now; free them when it does
        await downstream.run_watched(receive)

    async def _note_model(self, exchange: Exchange, values: dict[bytes, bytes], receive: Receive) -> None:
        """Read a small body of a call that we refuse, so that its record names the model.

        Raises ClientLeft.
        """
        if b"expect" in values:
            return  # the client waits for our leave to send the body; we refuse first
        record = exchange.record
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(NOTE_SECONDS):
                body, _ = await read_request(values, receive, SMALL_BYTES, self._memory, record.client)
            record.bytes_in = len(body)
            facts = read_body(body)
            record.model_requested, record.stream = facts.model, facts.stream

    async def _not_post(self, scope: Scope, send: Send) -> None:
        if scope["method"] == "GET":
            message = "GET and WebSockets are not served here. POST the request over HTTP."
            await self._answer(scope, send, UpgradeNotSupported(message), _CLOSE)
            return
        message = f"{scope['method'][:16]} is not served here. Use POST."
        await self._answer(scope, send, InvalidRequest(message), [(b"allow", b"POST")], 405)

    async def _answer(
        self, scope: Scope, send: Send, error: ApiError, extra: Headers, status: int | None = None
    ) -> None:
        client = scope.get("client")
        self._gateway.refused(error, client[0] if client else None, f"{scope['method']} {scope['path']}")
        code, headers, body = error_answer(error, self._gateway.new_id(), status)
        await send({"type": "http.response.start", "status": code, "headers": [*headers, *extra]})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _credential(values: dict[bytes, bytes]) -> bytes | None:
    """The credential of a call. No other place reads it."""
    return values.get(b"authorization")


def openapi_path(prefix: str) -> dict[str, Any]:
    """The route's part of the OpenAPI document. Requests and answers are passed through and not modelled."""
    anything = {"schema": {"type": "object", "additionalProperties": True}}
    error = {
        "description": "An error of Weighbridge, or one of upstream, passed on.",
        "content": {"application/json": anything},
    }
    return {
        "post": {
            "operationId": f"create_response{prefix.replace('/', '_')}",
            "summary": "Create a response. The call is forwarded upstream and the answer is passed on byte for byte.",
            "security": [{"client_key": []}],
            "requestBody": {"required": True, "content": {"application/json": anything}},
            "responses": {
                "200": {
                    "description": "Upstream's answer, unchanged: a stream of events when the body asks for one.",
                    "content": {
                        "application/json": anything,
                        "text/event-stream": {"schema": {"type": "string"}},
                    },
                },
                "default": error,
            },
        },
        "get": {
            "operationId": f"probe_websocket{prefix.replace('/', '_')}",
            "summary": "Answers 426: WebSockets are not served.",
            "responses": {"426": error},
        },
    }
