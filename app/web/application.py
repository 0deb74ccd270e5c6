"""The FastAPI application. The forwarding route is taken first; FastAPI's router serves all other routes.

`/docs` and `/redoc` are off: they load scripts from other sites. The OpenAPI document needs a key.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.domain.headers import value_of
from app.web.cross_origin import CrossOrigin, is_preflight
from app.web.doors.request_body import bounded
from app.web.doors.responses import PATHS, PREFIXES, openapi_path
from app.web.errors import id_headers, install_error_pages
from app.web.routes import account, admin, audit, clients, models, prices, probes, terms, unsettled, upstream

ORDINARY_BODY_BYTES = 64 * 1024
"""The largest request body that an ordinary route takes."""

_DECODED = b"/admin/api/"
_HOT_PATHS = frozenset(path.encode("ascii") for path in PATHS)


class Application(FastAPI):
    """FastAPI, except that forwarded calls bypass its middleware and router."""

    hot: ASGIApp | None = None  # the forwarding route; set when the gateway is up
    cross_origin: CrossOrigin | None = None  # set when the settings name origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by its exact path: no redirect for a slash. Only paths of the admin API are decoded."""
        if self.cross_origin is not None and scope["type"] == "http":
            origin = self.cross_origin.origin_of(scope)
            if origin is not None:
                if is_preflight(scope):
                    await self.cross_origin.preflight(scope, origin, self._with_ids(send))
                    return
                send = self.cross_origin.readable(origin, send)
        if scope["type"] == "http" and self.hot is not None and scope["raw_path"] in _HOT_PATHS:
            await self.hot(scope, receive, send)
        elif scope["type"] == "http":
            if not scope["raw_path"].startswith(_DECODED):
                scope["path"] = scope["raw_path"].decode("ascii")
            await super().__call__(scope, bounded(receive, ORDINARY_BODY_BYTES), self._with_ids(send))
        else:
            await super().__call__(scope, receive, send)

    def _with_ids(self, send: Send) -> Send:
        """Wrap `send`: answers get a request id. Error answers keep the one that is in their body."""

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ())]
                if value_of(headers, b"x-request-id") is None:
                    headers += id_headers(self.state.gateway.new_id())
                message = {**message, "headers": headers}
            await send(message)

        return send_with_id

    def openapi(self) -> dict[str, Any]:
        """FastAPI's OpenAPI document, with the forwarding routes added."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        document = super().openapi()
        for prefix in PREFIXES:
            document["paths"][f"{prefix}/responses"] = openapi_path(prefix)
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["client_key"] = {"type": "http", "scheme": "bearer", "description": "A client's key, sk-wb-..."}
        return document


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def make_application(lifespan: Lifespan) -> Application:
    """Make the application with its routes. `lifespan` fills `app.state` (see app.main) before the first request."""
    app = Application(
        title="Weighbridge",
        version=__version__,
        summary="A proxy for the Responses API that passes every byte and weighs every token.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    install_error_pages(app)
    app.include_router(probes.router)
    app.include_router(admin.router)
    app.include_router(audit.router)
    app.include_router(clients.router)
    app.include_router(terms.router)
    app.include_router(unsettled.router)
    app.include_router(upstream.router)
    app.include_router(prices.router)
    for prefix in PREFIXES:
        app.include_router(account.router, prefix=prefix)
        app.include_router(models.router, prefix=prefix)
    return app
