"""The admin API: keys, the ledger, and what the server says of itself. The commands call it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from app import __version__
from app.domain.errors import InvalidRequest
from app.domain.identity.keys import MintedKey, StoredKey
from app.domain.record_json import record_fields, rfc3339
from app.domain.records import Book, Record
from app.gateway.clients.keys import KeyService
from app.gateway.ports import Reports
from app.gateway.usage_query import UsageQuery
from app.web.credentials import require_admin
from app.web.routes.audit import note
from app.web.routes.terms import ClientChange, change_client, client_terms, terms_service
from app.web.routes.usage_report import UsageParameters, report_row

_LINES = "application/x-ndjson"

router = APIRouter(prefix="/admin/api", tags=["admin"], dependencies=[Depends(require_admin)])


class NewKey(BaseModel):
    """A key to make. Without `expires_seconds` it does not expire. `label` is shown in lists.

    `terms` are set for its client, new or not, before the key is made.
    """

    model_config = ConfigDict(extra="forbid")
    client: str
    expires_seconds: Annotated[int, Field(gt=0, le=3_153_600_000)] | None = None
    label: str | None = None
    terms: ClientChange | None = None


class Rotation(BaseModel):
    """How long the old key still works."""

    model_config = ConfigDict(extra="forbid")
    grace_seconds: Annotated[int, Field(ge=0, le=315_360_000)] = 86_400


def _clients(request: Request) -> KeyService:
    clients: KeyService = request.app.state.clients
    return clients


def _minted(client: str, key: MintedKey) -> dict[str, Any]:
    return {"client": client, "key_id": key.key_id, "key": key.text}


def key_shown(key: StoredKey, now_us: int) -> dict[str, Any]:
    """A key as JSON, without its secret."""
    return {
        "key_id": key.key_id,
        "client": key.client,
        "label": key.label,
        "state": key.state(now_us).value,
        "created_at": rfc3339(key.created_at),
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
        "last_used_at": _time(key.last_used_at),
    }


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else rfc3339(microseconds)


@router.get("/server")
async def server(request: Request) -> dict[str, Any]:
    """Describes the server. `url` is its address on this machine, `public_url` the one that clients use, if it differs.

    `other_urls` are addresses at which other machines may reach it.
    """
    state = request.app.state
    urls = {"url": state.url, "public_url": state.public_url, "other_urls": state.other_urls}
    return {"version": __version__, **urls}


@router.post("/keys", status_code=201)
async def create_key(request: Request, wanted: NewKey) -> dict[str, Any]:
    """Make a key, and its client if that is new. Only this answer shows the key."""
    clients, change = _clients(request), wanted.terms
    lifetime = None if wanted.expires_seconds is None else wanted.expires_seconds * 1_000_000
    try:
        if change is not None:  # before the key is made: no key may exist without these terms
            terms_service(request).group_of(client_terms(clients.terms_of(wanted.client), change))
        key = await clients.create_key(wanted.client, lifetime_us=lifetime, label=wanted.label)
    except ValueError as error:
        raise InvalidRequest(str(error), param="client") from None
    lasts = wanted.expires_seconds
    await note(request, "key.create", key.key_id, client=wanted.client, label=wanted.label, expires_seconds=lasts)
    if change is not None:
        await change_client(request, wanted.client, change)
    return _minted(wanted.client, key)


@router.get("/keys")
async def list_keys(request: Request) -> dict[str, Any]:
    """All keys ever made, oldest first, without their secrets."""
    now = request.app.state.clock.wall_us()
    return {"keys": [key_shown(key, now) for key in await _clients(request).list_keys()]}


@router.post("/keys/{key_id}/revoke")
async def revoke_key(request: Request, key_id: str, *, let_run: Annotated[bool, Query()] = False) -> dict[str, Any]:
    """Revoke a key. Its running calls end at once, unless `let_run` is set."""
    key = await _clients(request).revoke_key(key_id, let_run=let_run)
    await note(request, "key.revoke", key.key_id, client=key.client, let_run=let_run or None)
    return key_shown(key, request.app.state.clock.wall_us())


@router.post("/keys/{key_id}/rotate", status_code=201)
async def rotate_key(request: Request, key_id: str, rotation: Rotation) -> dict[str, Any]:
    """Make a new key for the same client. The old key works until the grace period ends."""
    try:
        new, old = await _clients(request).rotate_key(key_id, grace_us=rotation.grace_seconds * 1_000_000)
    except ValueError as error:
        raise InvalidRequest(str(error), param="key_id") from None
    await note(request, "key.rotate", old.key_id, client=old.client, new_key=new.key_id)
    return {**_minted(old.client, new), "old_key": key_shown(old, request.app.state.clock.wall_us())}


@router.get("/usage")
async def usage(request: Request, wanted: Annotated[UsageParameters, Query()]) -> Response:
    """The ledger: sums as one JSON document, or with `by=request` one line of JSON for each record.

    With `request`, an id of ours or of upstream, the records of that call, one line each.
    """
    reports: Reports = request.app.state.reports
    query = wanted.query(request.app.state.clock.wall_us(), request.app.state.book)
    if wanted.request is not None:
        lines = [_line(record) for record in await reports.find(wanted.request, query)]
        return Response(b"".join(lines), media_type=_LINES)
    if wanted.by == "request":
        return StreamingResponse(_lines(reports, query), media_type=_LINES)
    rows = [report_row(row, query.by) for row in await reports.totals(query)]
    document = {"by": query.by, "rows": rows, "left_out": await _left_out(reports, wanted, query)}
    return Response(orjson.dumps(document), media_type="application/json")


async def _left_out(reports: Reports, wanted: UsageParameters, query: UsageQuery) -> dict[str, Any] | None:
    """The other book and its number of matching calls. None if the caller has chosen a book."""
    if wanted.book is not None or query.book is None:
        return None
    book = Book.REAL if query.book is Book.DEMO else Book.DEMO
    rows = await reports.totals(replace(query, book=book, by=None))
    return {"book": book, "requests": sum(row["requests"] for row in rows)}


def _line(record: Record) -> bytes:
    return orjson.dumps(record_fields(record), option=orjson.OPT_APPEND_NEWLINE)


async def _lines(reports: Reports, query: UsageQuery) -> AsyncIterator[bytes]:
    """Records in pieces of a few hundred lines: one send for each record would cost more than reading it."""
    lines: list[bytes] = []
    async for record in reports.records(query):
        lines.append(_line(record))
        if len(lines) >= 256:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)
