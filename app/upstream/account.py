"""What the server's key has spent, by OpenRouter's `GET /key`."""

from app.domain.money import parse_usd
from app.gateway.ports import Spending
from app.upstream.documents import Documents, UpstreamSilent


class OpenRouterAccount:
    """The gateway's Account port; `documents` come with the server's key."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def spending(self) -> Spending:
        """What was spent so far. Raises UpstreamSilent."""
        data = (await self._documents.fetch_fields("/key")).get("data")
        if not isinstance(data, dict):
            raise UpstreamSilent("GET /key: the answer has no data")
        return Spending(
            day=parse_usd(data.get("usage_daily")),
            week=parse_usd(data.get("usage_weekly")),
            month=parse_usd(data.get("usage_monthly")),
            total=parse_usd(data.get("usage")),
        )
