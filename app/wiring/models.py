"""Where the lists of models come from."""

from contextlib import AsyncExitStack

from app.gateway.clock import Clock
from app.gateway.exchange.key_guard import KeyGuard
from app.upstream.api.client import UpstreamApi
from app.upstream.api.model_lists import UpstreamModelLists
from app.upstream.prices.bundled import BundledPrices


def model_lists(
    upstream_api: UpstreamApi | None, key_guard: KeyGuard, prices: BundledPrices, clock: Clock, stack: AsyncExitStack
) -> UpstreamModelLists | None:
    """None without an upstream key. Upstream is asked when the first client asks."""
    if upstream_api is None:
        return None
    made = UpstreamModelLists(upstream_api, key_guard, prices.overrides, clock.monotonic)
    stack.push_async_callback(made.close)
    return made
