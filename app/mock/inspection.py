"""/_mock: what tests ask the mock about itself. Needs no key; holds none."""

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.mock.state import MockState


class Inspection:
    """The routes below /_mock."""

    def __init__(self, state: MockState) -> None:
        self._state = state

    async def books(self, _: Request) -> Response:
        """`calls`, oldest first, and `totals` over those that are over."""
        calls = [entry.json() for entry in self._state.books]
        return JSONResponse({"calls": calls, "totals": self._state.books.totals()})

    async def stats(self, _: Request) -> Response:
        """Counts."""
        return JSONResponse(asdict(self._state.books.stats))

    async def reset(self, _: Request) -> Response:
        """Begin anew."""
        self._state.reset()
        return JSONResponse({"reset": True})

    async def caught(self, request: Request) -> Response:
        """Where the redirect fault leads: somebody followed, and brought a key or did not."""
        stats = self._state.books.stats
        stats.redirects_followed += 1
        stats.redirects_with_key += "authorization" in request.headers
        return JSONResponse({"caught": True})
