"""Asks upstream, free of charge, whether it accepts the server's key."""

from app.upstream.api.client import UpstreamApi, UpstreamQueryFailed

_NO_ROUTE = frozenset((404, 405, 501))


class UpstreamKeyCheck:
    """The gateway's KeyCheck; `api` has the server's key.

    OpenRouter has `GET /key`, and its `GET /models` needs no key. Others have only `GET /models`.
    """

    def __init__(self, api: UpstreamApi) -> None:
        self._api = api

    async def takes_key(self) -> bool | None:
        """Whether upstream accepts the key; None if that is unknown."""
        try:
            status = (await self._api.fetch("/key")).status
            if status in _NO_ROUTE:
                status = (await self._api.fetch("/models")).status
        except UpstreamQueryFailed:
            return None
        return True if status == 200 else False if status == 401 else None
