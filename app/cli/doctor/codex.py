"""Checks with what Codex sends (0.171, measured): a WebSocket, compressed bodies, many headers, early hang-ups."""

import json
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing

import zstandard

from app.cli.doctor.finding import Finding, fail, ok, warn
from app.cli.doctor.handshake import JSON, RunningGateway, check_call

VERSION = "0.171.0"
_THREAD = "019a2b3c-0000-7000-8000-000000000000"
_TURN = json.dumps(
    {"turn_id": _THREAD, "sandbox": "seccomp", "workspaces": {f"workspace-{n:03}": {} for n in range(60)}}
)
_HEADERS = {
    "accept": "text/event-stream",
    "user-agent": f"codex_exec/{VERSION} (Debian 12.0.0; x86_64) xterm (codex_exec; {VERSION})",
    "originator": "codex_exec",
    "version": VERSION,
    "session-id": _THREAD,
    "thread-id": _THREAD,
    "x-client-request-id": _THREAD,
    "x-codex-window-id": f"{_THREAD}:0",
    "x-codex-turn-metadata": _TURN,
    "x-codex-beta-features": "remote_compaction_v2",
    "x-codex-installation-id": _THREAD,
}
_TOOLS = [
    {
        "type": "function",
        "name": f"tool_{n}",
        "description": "x" * 500,
        "strict": False,
        "parameters": {"type": "object"},
    }
    for n in range(40)
] + [{"type": "custom", "name": "apply_patch"}, {"type": "web_search"}]


def _body(gateway: RunningGateway) -> bytes:
    return gateway.question(
        stream=True,
        tools=_TOOLS,
        tool_choice="auto",
        parallel_tool_calls=True,
        store=False,
        include=["reasoning.encrypted_content"],
        prompt_cache_key=_THREAD,
        client_metadata={"x-codex-installation-id": _THREAD},
    )


def check_websocket(gateway: RunningGateway) -> Iterator[Finding]:
    """Codex first tries a WebSocket if the provider is said to have them. The answer must be 101, or 426 at once."""
    upgrade = {
        **_HEADERS,
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": b64encode(os.urandom(16)).decode(),
        "sec-websocket-extensions": "permessage-deflate; client_max_window_bits",
        "openai-beta": "responses_websockets=2026-02-06",
    }
    check = "codex websocket"
    answer = gateway.ask("GET", "/responses", upgrade)
    if answer.status == 101:
        yield ok(check, "a WebSocket is opened")
    elif answer.status == 426:
        yield warn(check, "not served (HTTP 426): Codex uses HTTP at once")
    else:
        detail = f"{answer.summary}: Codex tries 7 times, for 6 s, before it uses HTTP"
        yield fail(check, detail, "check whether a proxy in front of the gateway answers instead")


def check_compressed_body(gateway: RunningGateway) -> Iterator[Finding]:
    """Codex sends bodies in zstd to providers named OpenAI."""
    headers = {**_HEADERS, "content-encoding": "zstd"}
    yield from check_call(gateway, "codex zstd", headers, zstandard.compress(_body(gateway)))


def check_headers(gateway: RunningGateway) -> Iterator[Finding]:
    """A call with all the headers of Codex and its kinds of tools."""
    yield from check_call(gateway, "codex headers", _HEADERS, _body(gateway))


def check_hang_up(gateway: RunningGateway) -> Iterator[Finding]:
    """Codex leaves as soon as it has what it needs. The next call must be served at once."""
    with closing(gateway.connection()) as connection:
        gateway.send(connection, "POST", "/responses", {"content-type": JSON, **_HEADERS}, _body(gateway))
    yield from check_call(gateway, "codex hang-up", _HEADERS, _body(gateway))


def check_compaction(gateway: RunningGateway) -> Iterator[Finding]:
    """Older versions of Codex compact a conversation with a separate route."""
    body = gateway.question(instructions="Compact.")
    check = "codex compact"
    answer = gateway.ask("POST", "/responses/compact", {"content-type": JSON, **_HEADERS}, body)
    if answer.status in {404, 405}:
        yield warn(check, f"not served (HTTP {answer.status}): newer versions of Codex do not need it")
    elif answer.status in {200, 403}:
        yield ok(check, "it is served")
    else:
        yield fail(check, answer.summary, "see the server's log")


def check_models(gateway: RunningGateway) -> Iterator[Finding]:
    """Codex reads the list of models from `models`, not from `data`."""
    check = "codex models"
    answer = gateway.ask("GET", f"/models?client_version={VERSION}", _HEADERS)
    if answer.status in {404, 405, 426}:
        yield warn(check, f"not served (HTTP {answer.status}): Codex prints a warning about missing metadata and works")
    elif answer.status != 200:
        yield fail(check, answer.summary, "see the server's log")
    elif isinstance(answer.fields.get("models"), list):
        yield ok(check, "the list has the form that Codex reads")
    else:
        yield warn(check, "the list has no `models`: Codex cannot read it, prints a warning and works")


CHECKS = (check_websocket, check_compressed_body, check_headers, check_hang_up, check_compaction, check_models)
