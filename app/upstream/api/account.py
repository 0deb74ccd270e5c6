"""What the server's key has spent, by OpenRouter's `GET /key`."""

from collections.abc import Mapping

from app.domain.money.amounts import parse_usd
from app.domain.spans import parse_moment
from app.gateway.ports import UpstreamSpending
from app.upstream.api.client import UpstreamApi, UpstreamQueryFailed


class OpenRouterAccount:
    """The gateway's UpstreamAccount; `api` has the server's key."""

    def __init__(self, api: UpstreamApi) -> None:
        self._api = api

    async def spending(self) -> UpstreamSpending:
        """Raises UpstreamQueryFailed."""
        data = (await self._api.fetch_fields("/key")).get("data")
        if not isinstance(data, dict):
            raise UpstreamQueryFailed("GET /key: the answer has no data")
        return UpstreamSpending(
            day=_spent(data, "usage_daily"),
            week=_spent(data, "usage_weekly"),
            month=_spent(data, "usage_monthly"),
            total=_spent(data, "usage"),
            since=_since(data.get("books_since")),
        )


def _spent(data: Mapping[str, object], name: str) -> int | None:
    """What was spent of credits, and with the account's own provider keys."""
    spent = parse_usd(data.get(name))
    return None if spent is None else spent + (parse_usd(data.get("byok_" + name)) or 0)


def _since(value: object) -> int | None:
    """When upstream's count begins; only our own mock says so."""
    try:
        return parse_moment(value, 0) if isinstance(value, str) else None
    except ValueError:
        return None
