"""A gateway on the in-memory ports, and one exchange of it with everything that a test wants to look at."""

import json
import secrets
from dataclasses import dataclass
from typing import Any

from app.domain.headers import Headers, towards_client, towards_upstream
from app.domain.identity.keys import MintedKey, StoredKey, mint
from app.domain.identity.request_ids import RequestIds
from app.domain.money.terms import ClientTerms
from app.domain.money.worst_case import Assumptions
from app.domain.records import Record
from app.gateway.admission.admission import Admission, AdmissionRules
from app.gateway.admission.body_memory import BodyMemory
from app.gateway.clients.keys import KeyDirectory
from app.gateway.exchange.exchange import Exchange
from app.gateway.exchange.key_guard import KeyGuard
from app.gateway.gateway import Gateway, Ticket
from app.gateway.ports import StoredClient
from app.gateway.services import Services
from app.limits.memory.limiter import MemoryLimiter
from tests.gateway.forms import (
    CountingObserver,
    HandCall,
    HandClock,
    HandSpending,
    HandUpstream,
    MemoryLedger,
    MemoryPrices,
    RecordingDownstream,
)

UPSTREAM_KEY = "sk-or-v1-0123456789abcdef"
STREAM_CALL = b'{"model":"m-asked","stream":true}'
JSON_CALL = b'{"model":"m-asked"}'
RULES = AdmissionRules(Assumptions(bytes_per_token=3, output_ceiling=1000), refuse_unknown_price=True, last_call=True)


class House:
    """The gateway and its six neighbours."""

    def __init__(self, *, max_streams: int = 100, at_once: bool = False, rules: AdmissionRules = RULES) -> None:
        self.time = HandClock()
        self.upstream = HandUpstream()
        self.ledger = MemoryLedger(at_once=at_once)
        self.prices = MemoryPrices()
        self.observer = CountingObserver()
        self.directory = KeyDirectory()
        services = Services(
            self.upstream,
            self.ledger,
            self.prices,
            self.observer,
            self.time.clock,
            towards_client(),
            KeyGuard(UPSTREAM_KEY),
            estimates=True,
        )
        self.services = services
        self.spending = HandSpending()
        self.limiter = MemoryLimiter(self.spending, lambda: self.time.us * 1000, self.time.clock.wall_us)
        admission = Admission(services, self.limiter, rules)
        self.memory = BodyMemory(8 * 2**20)
        self.gateway = Gateway(services, self.directory, admission, RequestIds(7), towards_upstream(), max_streams)

    def make_key(self, client: str = "alice", **changes: Any) -> MintedKey:  # noqa: ANN401 - StoredKey's own fields
        """A key that opens this gateway."""
        minted = mint(secrets.token_bytes)
        times = {"created_at": self.time.us, "expires_at": None, "revoked_at": None, **changes}
        self.directory.put(StoredKey(minted.key_id, client, minted.digest, **times))
        return minted

    def put_terms(self, **terms: Any) -> None:  # noqa: ANN401 - ClientTerms' own fields
        """Agree this with alice, and nothing else."""
        self.directory.clients.put_client(StoredClient("alice", self.time.us, None, ClientTerms(**terms)))

    async def agree(self, **terms: Any) -> None:  # noqa: ANN401 - as above
        """The same, budgets among it."""
        self.put_terms(**terms)
        await self.limiter.prepare(self.directory.clients.holders("alice"))

    def visit(self, body: bytes = STREAM_CALL, headers: Headers | None = None) -> "Visit":
        """One call, sent upstream unless its body is refused."""
        visit = self.arrive()
        self.gateway.send(visit.exchange, "/responses", headers or [], body)
        return visit

    def arrive(self, name: str = "alice") -> "Visit":
        """One call of that client that is not sent yet."""
        client = RecordingDownstream()
        ticket = Ticket(name, "key0123456")
        if (terms := self.directory.clients.terms.get(name)) is not None:
            ticket = Ticket(name, "key0123456", terms.on_disconnect)
        return Visit(self, self.gateway.open(ticket, "POST", "/v1/responses", client), client)


@dataclass
class Visit:
    """One exchange: the client's side, upstream's side, the record as it was settled."""

    house: House
    exchange: Exchange
    client: RecordingDownstream

    @property
    def upstream(self) -> HandCall:
        return self.house.upstream.calls[-1]

    @property
    def record(self) -> Record:
        return self.house.ledger.settled[self.exchange.record.request_id]

    @property
    def settled(self) -> bool:
        return self.exchange.record.request_id in self.house.ledger.settled

    def commit(self) -> None:
        self.house.ledger.commit()


def event(kind: str, **fields: Any) -> bytes:  # noqa: ANN401 - any JSON
    """One server-sent event as OpenAI frames it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def usage(into: int = 12, out: int = 45, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {"input_tokens": into, "output_tokens": out, "total_tokens": into + out, **more}


def response(status: str = "completed", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {"id": "resp_1", "model": "m-served", "status": status, "usage": usage(), **more}


CREATED = event("response.created", response={"id": "resp_1", "model": "m-served", "status": "in_progress"})
DELTA = event("response.output_text.delta", delta="hello")
COMPLETED = event("response.completed", response=response())
DONE = b"data: [DONE]\n\n"
