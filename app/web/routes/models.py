"""The models that a caller may use: `GET /models` and `GET /models/{id}`.

These calls cost nothing. No rpm and no budget counts them, a spent budget does not refuse them, and they have no record
in the ledger yet.
"""

import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from app.domain.errors import InvalidRequest, NotFound
from app.gateway.gateway import Ticket
from app.gateway.model_list import AllowLists, ListAnswer, etag_of
from app.web.credentials import Caller

if TYPE_CHECKING:
    from app.gateway.model_list import ModelList, ModelLists
    from app.web.routes.client_rate import ClientRate

router = APIRouter(tags=["models"])

NEW_VERSION_UNITS = 60
"""What a version that is not kept counts: upstream is asked for it."""

_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,39}")
_LONGEST_SHOWN = 80
_NOT_MODIFIED = 304
_HEADERS = {"cache-control": "private, no-cache", "vary": "authorization"}

IfNoneMatch = Annotated[str | None, Header(alias="if-none-match")]


@router.get("/models", response_class=Response)
async def models(
    request: Request,
    caller: Caller,
    client_version: Annotated[str | None, Query(description="The version of Codex that asks.")] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Upstream's list, filtered by the caller's allow-list. With `client_version` also `models`, which Codex reads."""
    listed = await _listed(request, caller, client_version)
    return _answered(await listed.answer(_allow_lists(caller)), if_none_match)


@router.get("/models/{model:path}", response_class=Response)
async def model(request: Request, caller: Caller, model: str, if_none_match: IfNoneMatch = None) -> Response:
    """One entry of the list."""
    listed = await _listed(request, caller, None)
    name = unquote(model)  # paths of clients are not decoded before
    entry = listed.find(name, _allow_lists(caller))
    if entry is None:
        raise NotFound(f"There is no model {name[:_LONGEST_SHOWN]!r} that this client may use. GET /models lists them.")
    return _answered(ListAnswer(entry, etag_of(entry)), if_none_match)


async def _listed(request: Request, caller: Ticket, version: str | None) -> "ModelList":
    """Raises RateLimited, InvalidRequest, NotFound, UpstreamFault."""
    lists: ModelLists | None = request.app.state.model_lists
    if lists is None:
        raise NotFound("There are no models here: no upstream key is loaded.")
    if version is not None and not _VERSION.fullmatch(version):
        raise InvalidRequest("`client_version` must be a version, as 0.171.0.", param="client_version")
    free_calls: ClientRate = request.app.state.free_calls
    free_calls.admit(caller.client, 1 if lists.keeps(version) else NEW_VERSION_UNITS)
    return await lists.get(version)


def _allow_lists(caller: Ticket) -> AllowLists:
    return () if caller.terms is None else caller.terms.models


def _answered(answer: ListAnswer, if_none_match: str | None) -> Response:
    headers = {**_HEADERS, "etag": answer.etag}
    if if_none_match is not None and _matches(if_none_match, answer.etag):
        return Response(status_code=_NOT_MODIFIED, headers=headers)
    return Response(answer.body, media_type="application/json", headers=headers)


def _matches(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
