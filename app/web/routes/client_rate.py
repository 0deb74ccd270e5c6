"""A rate for requests that cost upstream nothing: no limit and no budget counts them."""

from collections.abc import Callable

from app.domain.errors import RateLimited
from app.domain.money.rates import Rate

FREE_CALLS_A_MINUTE = 600


class ClientRate:
    """Counts the requests of each client in this process. `now` gives seconds, monotonic.

    `doing` is what the requests do, for the message: "A client may <doing> 60 times a minute."
    """

    def __init__(self, a_minute: int, doing: str, now: Callable[[], float]) -> None:
        self._a_minute = a_minute
        self._doing = doing
        self._now = now
        self._rates: dict[str, Rate] = {}

    def admit(self, client: str, units: int = 1) -> None:
        """Count a request of the client. Raises RateLimited."""
        now_ns = int(self._now() * 1e9)
        rate = self._rates.setdefault(client, Rate())
        rate.advance(now_ns)
        wait_ns = rate.wait_ns(units, self._a_minute, now_ns)
        if wait_ns:
            seconds = -(-wait_ns // 1_000_000_000)
            message = f"A client may {self._doing} {self._a_minute} times a minute. Try again in {seconds} s."
            raise RateLimited(message, headers=(("retry-after", str(seconds)),))
        rate.take(units, now_ns)
