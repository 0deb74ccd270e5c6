"""The FastAPI application: the hot route in front of everything, ordinary routes for all else.

`/docs` and `/redoc` are off: they load scripts from elsewhere. The OpenAPI document is for holders of a key.
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
from app.web.routes import account, admin, audit, clients, prices, probes, terms, unsettled, upstream

ORDINARY_BODY_BYTES = 64 * 1024
"""The largest that an ordinary route takes: a name and some numbers."""

_DECODED = b"/admin/api/"
_HOT_PATHS = frozenset(path.encode("ascii") for path in PATHS)


class Application(FastAPI):
    """FastAPI, but for the forwarding routes, which never enter its middleware and router."""

    hot: ASGIApp | None = None  # set when the gateway is up
    cross_origin: CrossOrigin | None = None  # set when origins are named

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Exact paths only, as they came: no redirect for a slash, and no decoding but of names of the admin API."""
        if self.cross_origin is not None and scope["type"] == "http":
            origin = self.cross_origin.origin_of(scope)
            if origin is not None:
                if is_preflight(scope):
                    await self.cross_origin.preflight(scope, origin, self._numbering(send))
                    return
                send = self.cross_origin.marking(origin, send)
        if scope["type"] == "http" and self.hot is not None and scope["raw_path"] in _HOT_PATHS:
            await self.hot(scope, receive, send)
        elif scope["type"] == "http":
            if not scope["raw_path"].startswith(_DECODED):
                scope["path"] = scope["raw_path"].decode("ascii")
            await super().__call__(scope, bounded(receive, ORDINARY_BODY_BYTES), self._numbering(send))
        else:
            await super().__call__(scope, receive, send)

    def _numbering(self, send: Send) -> Send:
        """A `send` whose answers are numbered; those of errors bring the id that stands in their body."""

        async def send_numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ())]
                if value_of(headers, b"x-request-id") is None:
                    headers += id_headers(self.state.gateway.new_id())
                message = {**message, "headers": headers}
            await send(message)

        return send_numbered

    def openapi(self) -> dict[str, Any]:
        """FastAPI's document with the forwarding routes added."""
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
    """The application with its routes. `lifespan` fills `app.state` (see app.main) before the first request."""
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
    return app
