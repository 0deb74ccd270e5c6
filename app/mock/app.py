"""The mock upstream as an ASGI app: the Responses API of several servers, at /api/v1, /v1 and the root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.mock.account import MockAccount
from app.mock.compaction import Compaction
from app.mock.inspection import Inspection
from app.mock.lifecycle import Lifecycle
from app.mock.options import MockOptions
from app.mock.reception import Reception
from app.mock.refusals import MockRefusal
from app.mock.responses import CAUGHT_PATH, Responses
from app.mock.state import MockState
from app.mock.statements import Statements

PREFIXES = ("/api/v1", "/v1", "")


def create_mock(options: MockOptions | None = None) -> Starlette:
    """The app. Faults of the connection need app.mock.server to serve it; everything else any ASGI server can."""
    state = MockState(options or MockOptions())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"books": state.books}  # for MockProtocol, which counts connections

    reception = Reception(state)

    async def refused(request: Request, refusal: Exception) -> Response:
        return _refused(request, refusal, reception, state)

    routes = [route for prefix in PREFIXES for route in _routes(prefix, state)]
    handlers: dict[Any, Any] = {MockRefusal: refused, HTTPException: refused}
    return Starlette(routes=[*routes, *_inspection(state)], lifespan=lifespan, exception_handlers=handlers)


def _routes(prefix: str, state: MockState) -> list[Route]:
    responses, compaction = Responses(state), Compaction(state)
    lifecycle, account, statements = Lifecycle(state), MockAccount(state), Statements(state)
    one = f"{prefix}/responses/{{response_id}}"
    return [
        Route(f"{prefix}/responses", responses.create, methods=["POST"]),
        Route(f"{prefix}/responses/compact", compaction.compact, methods=["POST"]),
        Route(f"{prefix}/responses/input_tokens", compaction.count, methods=["POST"]),
        Route(one, lifecycle.show, methods=["GET"]),
        Route(one, lifecycle.delete, methods=["DELETE"]),
        Route(f"{one}/cancel", lifecycle.cancel, methods=["POST"]),
        Route(f"{one}/input_items", lifecycle.input_items, methods=["GET"]),
        Route(f"{prefix}/models", account.models, methods=["GET"]),
        Route(f"{prefix}/generation", account.generation, methods=["GET"]),
        Route(f"{prefix}/key", account.key, methods=["GET"]),
        Route(f"{prefix}/credits", account.credits, methods=["GET"]),
        Route(f"{prefix}/activity", statements.activity, methods=["GET"]),
        Route(f"{prefix}/organization/usage/completions", statements.usage, methods=["GET"]),
        Route(f"{prefix}/organization/costs", statements.costs, methods=["GET"]),
    ]


def _inspection(state: MockState) -> list[Route]:
    inspection = Inspection(state)
    return [
        Route("/_mock/books", inspection.books, methods=["GET"]),
        Route("/_mock/stats", inspection.stats, methods=["GET"]),
        Route("/_mock/reset", inspection.reset, methods=["POST"]),
        Route(CAUGHT_PATH, inspection.caught, methods=["GET", "POST"]),
    ]


def _refused(request: Request, refusal: Exception, reception: Reception, state: MockState) -> Response:
    if isinstance(refusal, HTTPException):
        refusal = MockRefusal(refusal.status_code, refusal.detail)
    assert isinstance(refusal, MockRefusal)  # noqa: S101 - registered for these two only
    if request.url.path.endswith(("/responses", "/compact", "/input_tokens")):
        state.books.stats.refused += 1
    return JSONResponse(refusal.body(reception.dialect(request)), refusal.status)
