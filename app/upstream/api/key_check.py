"""Asks upstream, free of charge, whether it takes the server's key."""

from app.upstream.api.client import UpstreamApi, UpstreamQueryFailed

_NO_ROUTE = frozenset((404, 405, 501))


class UpstreamKeyCheck:
    """The gateway's KeyCheck; `api` has the server's key.

    `GET /key` is OpenRouter's, whose `GET /models` needs no key; others have only the latter.
    """

    def __init__(self, api: UpstreamApi) -> None:
        self._api = api

    async def takes_key(self) -> bool | None:
        """Whether upstream takes the key; None when it does not say."""
        try:
            status = (await self._api.fetch("/key")).status
            if status in _NO_ROUTE:
                status = (await self._api.fetch("/models")).status
        except UpstreamQueryFailed:
            return None
        return True if status == 200 else False if status == 401 else None
