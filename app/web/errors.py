"""Turns errors into HTTP: one body that the OpenAI, OpenRouter, Vercel and Codex clients parse (protocol.md 6.1)."""

from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.domain.errors import ApiError, InternalError, InvalidRequest, NotFound, PayloadTooLarge, QuotaSpent
from app.domain.headers import Headers, value_of

JSON = (b"content-type", b"application/json")


def id_headers(request_id: str) -> Headers:
    """The two id headers of an answer that does not come from upstream."""
    value = request_id.encode("ascii")
    return [(b"x-request-id", value), (b"x-weighbridge-request-id", value)]


class BrokenRequest(HTTPException):
    """Carries an ApiError through FastAPI's reading of a request body, which passes only HTTPException on."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.status)
        self.error = error


def error_body(error: ApiError, status: int, request_id: str, code: str | None = None) -> bytes:
    """The body of an error answer. Never raises.

    `code` is the status unless another is given: OpenRouter's SDKs require a number there. OpenAI's SDKs read the rest.
    """
    return orjson.dumps(
        {
            "error": {
                "code": code or status,
                "message": _writable(error.message),
                "type": error.type,
                "param": None if error.param is None else _writable(error.param),
                "metadata": {"error_type": error.error_type, "request_id": request_id},
            }
        }
    )


def code_for(error: ApiError, headers: Headers) -> str | None:
    """The `code` of an error for a caller that needs a word there. Codex explains a budget's refusal by that alone."""
    if isinstance(error, QuotaSpent) and (value_of(headers, b"originator") or b"").lower().startswith(b"codex"):
        return error.error_type
    return None


def error_answer(
    error: ApiError, request_id: str, status: int | None = None, code: str | None = None
) -> tuple[int, Headers, bytes]:
    """Status, headers and body for one of our errors. `status` and `code` override its own."""
    status = status or error.status
    body = error_body(error, status, request_id, code)
    headers: Headers = [JSON, (b"content-length", b"%d" % len(body)), *id_headers(request_id)]
    headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in (*error.headers, *error.extra_headers)]
    return status, headers, body


def install_error_pages(app: FastAPI) -> None:
    """Give ordinary routes the same error body in place of FastAPI's `{"detail": ...}`."""

    def answer(request: Request, error: ApiError, status: int | None = None) -> Response:
        gateway, client = request.app.state.gateway, request.client
        gateway.refused(error, None if client is None else client.host, f"{request.method} {request.scope['path']}")
        code, headers, body = error_answer(error, gateway.new_id(), status)
        response = Response(body, code)
        response.raw_headers = headers
        return response

    @app.exception_handler(ApiError)
    def ours(request: Request, error: ApiError) -> Response:
        return answer(request, error)

    @app.exception_handler(HTTPException)
    def starlettes(request: Request, error: HTTPException) -> Response:
        if isinstance(error, BrokenRequest):
            return answer(request, error.error)
        if error.status_code == 404:
            return answer(
                request, NotFound("There is nothing here. The API is at /api/v1/responses and /v1/responses.")
            )
        if error.status_code == 413:
            return answer(request, PayloadTooLarge("The request body is too large for this route."))
        headers = tuple((name.lower(), value) for name, value in (error.headers or {}).items())  # a 405 has `allow`
        return answer(request, InvalidRequest(str(error.detail), headers=headers), error.status_code)

    @app.exception_handler(RequestValidationError)
    def validations(request: Request, error: RequestValidationError) -> Response:
        return answer(request, InvalidRequest(_first_fault(error.errors())))

    @app.exception_handler(Exception)
    def anything(request: Request, error: Exception) -> Response:  # noqa: ARG001 - it is logged, not shown
        return answer(request, InternalError("Weighbridge failed on this request. Its log says more."))


def _writable(text: str) -> str:
    """Replace lone surrogates: a message may quote a caller's JSON that has them, and UTF-8 cannot encode them."""
    return text.encode("utf-8", "replace").decode()


def _first_fault(faults: Any) -> str:  # noqa: ANN401 - pydantic's own shape
    first = faults[0] if faults else {}
    where = ".".join(str(part) for part in first.get("loc", ()))
    return f"{where[:100]}: {first.get('msg', 'invalid')}"
