"""Gateways that refuse in every way there is, and a turnstile in front of each for every client that is sent there.

authentication        a revoked key                          rate_limited      the only slot is never free
model_not_allowed     nothing is allowed                     for_a_moment      it is free after the first refusal
insufficient_quota    a budget of nothing                    storage_unavailable   a budget, and Redis is away
payload_too_large     a question over the limit              overloaded, draining  by the whole server
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

from tests.e2e.client import opened
from tests.e2e.program import Gateway, Mock, eventually
from tests.e2e.test_limits import admin
from tests.e2e.turnstile import Turnstile, Turnstiles

MODEL = "openai/gpt-4o-mini"
MAX_BODY_BYTES = 400_000
QUESTION = "Hi."
LONG_QUESTION = "Hi. " * 110_000
"""Over the limit; a question of Codex, with all that it says besides, is under it."""

STATUS = {
    "authentication": 401,
    "model_not_allowed": 403,
    "payload_too_large": 413,
    "insufficient_quota": 429,
    "rate_limited": 429,
    "for_a_moment": 429,
    "storage_unavailable": 503,
    "overloaded": 503,
    "draining": 503,
}
PAUSE_SECONDS = {"storage_unavailable": 5, "overloaded": 1, "draining": 2}
"""What `retry-after` says."""

_TERMS: dict[str, dict[str, Any]] = {
    "model_not_allowed": {"models": ["nothing/*"]},
    "insufficient_quota": {"budget_tokens": {"total": 0}},
    "rate_limited": {"group": "busy"},
    "for_a_moment": {"concurrency": 1},
    "storage_unavailable": {"budget_tokens": {"day": 10_000_000}},
}
_GATEWAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "limits": (
        tuple(why for why in STATUS if STATUS[why] < 500),
        {"WEIGHBRIDGE_MAX_BODY_BYTES": f"{MAX_BODY_BYTES}"},
    ),
    "storage": (("storage_unavailable",), {"WEIGHBRIDGE_REDIS_URL": "redis://127.0.0.1:1/0"}),
    "full": (("overloaded",), {"WEIGHBRIDGE_MAX_STREAMS": "1"}),
    "leaving": (("draining",), {"WEIGHBRIDGE_DRAIN_TIMEOUT": "300"}),
}


@dataclass
class Case:
    """One client, and the way on which it will be refused for this reason."""

    gateway: Gateway
    way: Turnstile
    key: str

    @property
    def url(self) -> str:
        return f"{self.way.url}/v1"


class Refusing:
    """`cases[who, why]`, all open at once: nobody stands in another's way."""

    def __init__(self, folder: Path, upstream: Mock, upstream_key: str, stack: ExitStack) -> None:
        self._stack = stack
        self._ways = stack.enter_context(Turnstiles())
        self.cases: dict[tuple[str, str], Case] = {}

        def start(name: str) -> Gateway:
            home = folder / name
            home.mkdir()
            return Gateway(home, upstream_key, WEIGHBRIDGE_UPSTREAM_URL=f"{upstream.url}/api/v1", **_GATEWAYS[name][1])

        with ThreadPoolExecutor() as pool:
            started = list(pool.map(start, _GATEWAYS))
        self._gateways = {name: stack.enter_context(one) for name, one in zip(_GATEWAYS, started, strict=True)}

    def prepare(self, clients: tuple[str, ...]) -> None:
        limits, full, leaving = (self._gateways[name] for name in ("limits", "full", "leaving"))
        assert admin(limits, "PATCH", "/groups/busy", {"concurrency": 1}).status == 200
        for name, (reasons, _) in _GATEWAYS.items():
            for why in reasons:
                self._open_cases(self._gateways[name], why, clients)
        self._hold(limits, self._key(limits, "holder", "rate_limited"))
        self._hold(full, full.key)
        self._hold(full, self._key(full, "second", "overloaded"))  # one more than its limit is for a newcomer
        self._hold(leaving, leaving.key)
        leaving.process.tell(SIGTERM)
        eventually(lambda: leaving.get("/readyz").status == 503, "the end of its service")

    def _open_cases(self, gateway: Gateway, why: str, clients: tuple[str, ...]) -> None:
        """One client for all to be refused as, but for a slot that comes free: of these everybody has his own."""
        alone = why == "for_a_moment"
        key = "" if alone else self._key(gateway, why, why)
        for who in clients:
            own = self._key(gateway, f"{who}.{why}", why) if alone else key
            release = self._hold(gateway, own).close if alone else None
            self.cases[who, why] = Case(gateway, self._ways.to(gateway.url, release), own)

    def _key(self, gateway: Gateway, client: str, why: str) -> str:
        made = gateway.admin("POST", "/keys", {"client": client}).json
        gateway.secrets[f"key of {client}"] = made["key"]
        if why in _TERMS:
            assert admin(gateway, "PATCH", f"/clients/{client}", _TERMS[why]).status == 200
        if why == "authentication":
            assert gateway.admin("POST", f"/keys/{made['key_id']}/revoke").status == 200
        key: str = made["key"]
        return key

    def _hold(self, gateway: Gateway, key: str) -> ExitStack:
        """A call that does not end before this is closed."""
        held = self._stack.enter_context(ExitStack())
        hanging = {"model": MODEL, "input": "Hi.", "stream": True}
        call = held.enter_context(opened(f"{gateway.url}/v1/responses", key, hanging, {"x-mock-fault": "stall@1"}))
        assert call.answer.status == 200
        call.read()
        return held


@contextmanager
def refusing(folder: Path, upstream: Mock, upstream_key: str, *clients: str) -> Iterator[Refusing]:
    """All of them, ready to refuse these clients."""
    with ExitStack() as stack:
        made = Refusing(folder, upstream, upstream_key, stack)
        made.prepare(clients)
        yield made
