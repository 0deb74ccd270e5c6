"""The ASGI scope of a request. It is made after the request rules have passed the head."""

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

from app.domain.errors import InvalidRequest
from app.web.connection.request_rules import RequestRules, judge_old_version

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

    from app.web.connection.request_parser import RequestParser

Address = tuple[str, int] | None


def request_scope(
    request: "RequestParser",
    rules: RequestRules,
    server: tuple[str, int | None] | None,
    client: Address,
    state: dict[str, Any],
) -> "HTTPScope":
    """The scope of a request whose head is complete. Raises ApiError when the request must be refused."""
    version = request.version
    refusal = None if version == "1.1" else judge_old_version(version, request.headers)
    refusal = refusal or rules.judge(request.target, request.headers)
    if refusal is not None:
        raise refusal
    try:
        url = httptools.parse_url(request.target)
        path = url.path.decode("ascii")
    except (httptools.HttpParserError, ValueError):
        message = "The request's target is not a path that can be read."
        raise InvalidRequest(message) from None
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": version,
        "server": server,
        "client": client,
        "scheme": "http",
        "root_path": "",
        "headers": request.headers,
        "state": state.copy(),
        "method": request.method,
        "path": unquote(path) if "%" in path else path,
        "raw_path": url.path,
        "query_string": url.query or b"",
    }
