"""What all exchanges of a server share: the ports, and the rules that never change."""

from dataclasses import dataclass, field

from app.domain.headers import HeaderRule
from app.gateway.clock import Clock
from app.gateway.exchange.key_guard import KeyGuard
from app.gateway.key_health import KeyHealth
from app.gateway.ports import Ledger, Observer, PriceBook, Upstream


@dataclass(slots=True, frozen=True)
class Services:
    """Made once, in app.main."""

    upstream: Upstream
    ledger: Ledger
    prices: PriceBook
    observer: Observer
    clock: Clock
    to_client: HeaderRule
    key_guard: KeyGuard
    estimates: bool  # whether an unknown usage is estimated
    key_health: KeyHealth = field(default_factory=KeyHealth)
