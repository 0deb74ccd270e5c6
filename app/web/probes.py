"""For those who watch the process: is it alive, can it serve, what has it counted."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from app.web.credentials import require_admin_or_loopback, require_any_key

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. Touches nothing."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Each part with what is wrong with it, if anything. 503 when calls should go elsewhere."""
    parts: dict[str, dict[str, Any]] = request.app.state.readiness()
    ready = all(part["ok"] for part in parts.values())
    return JSONResponse({"status": "ready" if ready else "not ready", "parts": parts}, 200 if ready else 503)


@router.get("/metrics", dependencies=[Depends(require_admin_or_loopback)])
def metrics(request: Request) -> Response:
    """Prometheus text. For the admin key, or from this machine. Made in a thread: the first one imports much."""
    body, content_type = request.app.state.render_metrics()
    return Response(body, media_type=content_type)


@router.get("/openapi.json", include_in_schema=False, dependencies=[Depends(require_any_key)])
async def openapi(request: Request) -> JSONResponse:
    """The API, described. For holders of any key."""
    return JSONResponse(request.app.openapi())
