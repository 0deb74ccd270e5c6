"""Probes and metrics: whether the process is alive, whether it can serve, and what it has counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from app.web.credentials import is_operator, require_admin_or_loopback, require_any_key

router = APIRouter(tags=["operations"])


@dataclass(slots=True, frozen=True)
class HealthPart:
    """One part that serving needs. `problem` is a sentence for operators, or None.

    `red` means that calls should go to another server. With any other problem, calls are still served.
    """

    problem: str | None = None
    red: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """What /readyz shows to everybody: no problem, since that may name files, databases and providers."""
        state = "ok" if self.problem is None else "red" if self.red else "degraded"
        return {"ok": self.problem is None, "state": state}

    def explained(self) -> dict[str, Any]:
        """What /readyz shows to operators."""
        return {**self.shown(), "problem": self.problem, **self.more}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers as long as the event loop runs. Uses nothing else."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """The state of each part. 503 only when calls should go to another server.

    Only operators (the admin key, or a caller on this machine) see what is wrong with a part.
    """
    parts: Mapping[str, HealthPart] = request.app.state.readiness()
    red = any(part.red for part in parts.values())
    degraded = any(part.problem is not None for part in parts.values())
    status = "not ready" if red else "degraded" if degraded else "ready"
    explain = is_operator(request)
    shown = {name: part.explained() if explain else part.shown() for name, part in parts.items()}
    return JSONResponse({"status": status, "parts": shown}, 503 if red else 200)


@router.get("/metrics", dependencies=[Depends(require_admin_or_loopback)])
def metrics(request: Request) -> Response:
    """Prometheus text, for the admin key or from this machine. Runs in a thread: the first one imports much."""
    body, content_type = request.app.state.render_metrics()
    return Response(body, media_type=content_type)


@router.get("/openapi.json", include_in_schema=False, dependencies=[Depends(require_any_key)])
async def openapi(request: Request) -> JSONResponse:
    """The OpenAPI document. It needs a key, of a client or of the operator."""
    return JSONResponse(request.app.openapi())
