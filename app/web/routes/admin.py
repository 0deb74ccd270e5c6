"""The admin API: what operators do while the server runs. The command line is its first client."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from app import __version__
from app.domain.errors import InvalidRequest, NotFound
from app.domain.identity.keys import MintedKey, StoredKey
from app.domain.record_json import record_fields, rfc3339
from app.domain.records import Book, Record
from app.gateway.clients.keys import KeyService
from app.gateway.ports import Reports
from app.gateway.usage_query import UsageQuery
from app.web.credentials import require_admin
from app.web.routes.terms import agreements_of, client_terms_shown, standing_shown
from app.web.routes.usage_report import UsageParameters, report_row

_LINES = "application/x-ndjson"

router = APIRouter(prefix="/admin/api", tags=["admin"], dependencies=[Depends(require_admin)])


class NewKey(BaseModel):
    """A key to make. `expires_seconds` is its lifetime; without it, it does not expire. `label` is shown in lists."""

    model_config = ConfigDict(extra="forbid")
    client: str
    expires_seconds: Annotated[int, Field(gt=0, le=3_153_600_000)] | None = None
    label: str | None = None


class Rotation(BaseModel):
    """How long the old key goes on working."""

    model_config = ConfigDict(extra="forbid")
    grace_seconds: Annotated[int, Field(ge=0, le=315_360_000)] = 86_400


def _clients(request: Request) -> KeyService:
    clients: KeyService = request.app.state.clients
    return clients


def _minted(client: str, key: MintedKey) -> dict[str, Any]:
    return {"client": client, "key_id": key.key_id, "key": key.text}


def _shown(key: StoredKey, now_us: int) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "client": key.client,
        "label": key.label,
        "state": key.state(now_us).value,
        "created_at": rfc3339(key.created_at),
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
    }


def _client(client: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in client.items() if name != "terms"}
    return {**plain, "created_at": rfc3339(client["created_at"]), **client_terms_shown(client["terms"])}


@router.get("/server")
async def server(request: Request) -> dict[str, Any]:
    """What is running here. `url` is where this machine reaches it, `public_url` where clients do, if that differs.

    `other_urls` are of the addresses at which other machines may reach it.
    """
    state = request.app.state
    urls = {"url": state.url, "public_url": state.public_url, "other_urls": state.other_urls}
    return {"version": __version__, **urls}


@router.post("/keys", status_code=201)
async def create_key(request: Request, wanted: NewKey) -> dict[str, Any]:
    """Make a key, and its client if that is new. The key is shown here and never again."""
    lifetime = None if wanted.expires_seconds is None else wanted.expires_seconds * 1_000_000
    try:
        clients = _clients(request)
        return _minted(wanted.client, await clients.create_key(wanted.client, lifetime_us=lifetime, label=wanted.label))
    except ValueError as error:
        raise InvalidRequest(str(error), param="client") from None


@router.get("/keys")
async def list_keys(request: Request) -> dict[str, Any]:
    """All keys ever made, oldest first, without their secrets."""
    now = request.app.state.clock.wall_us()
    return {"keys": [_shown(key, now) for key in await _clients(request).list_keys()]}


@router.post("/keys/{key_id}/revoke")
async def revoke_key(request: Request, key_id: str) -> dict[str, Any]:
    """End a key at once."""
    return _shown(await _clients(request).revoke_key(key_id), request.app.state.clock.wall_us())


@router.post("/keys/{key_id}/rotate", status_code=201)
async def rotate_key(request: Request, key_id: str, rotation: Rotation) -> dict[str, Any]:
    """Make a new key for the same client; the old one works until the grace ends."""
    try:
        new, old = await _clients(request).rotate_key(key_id, grace_us=rotation.grace_seconds * 1_000_000)
    except ValueError as error:
        raise InvalidRequest(str(error), param="key_id") from None
    return {**_minted(old.client, new), "old_key": _shown(old, request.app.state.clock.wall_us())}


@router.get("/clients")
async def list_clients(request: Request) -> dict[str, Any]:
    """All clients."""
    return {"clients": [_client(client) for client in await _clients(request).list_clients()]}


@router.get("/clients/{name}")
async def show_client(request: Request, name: str) -> dict[str, Any]:
    """One client: what is agreed with it and how it stands, its keys, and its usage in all."""
    now = request.app.state.clock.wall_us()
    client = next((c for c in await _clients(request).list_clients() if c["name"] == name), None)
    if client is None:
        message = f"There is no client {name[:64]!r}."
        raise NotFound(message)
    reports: Reports = request.app.state.reports
    totals = await reports.totals(UsageQuery(client=name, book=request.app.state.book))
    keys = [_shown(key, now) for key in await _clients(request).list_keys() if key.client == name]
    usage = report_row(totals[0]) if totals else None
    readings = await agreements_of(request).readings(name)
    standing = {holder.kind: standing_shown(reading) for holder, reading in readings}
    return {**_client(client), "standing": standing, "keys": keys, "usage": usage}


@router.get("/usage")
async def usage(request: Request, wanted: Annotated[UsageParameters, Query()]) -> Response:
    """The ledger: sums as one JSON document, or with by=request each record as one line of JSON.

    With `request`, an id of ours or of upstream's, the records of that call, as such lines.
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
    """The other book, and how many calls it has of what was asked for; None when the caller has chosen a book."""
    if wanted.book is not None or query.book is None:
        return None
    book = Book.REAL if query.book is Book.DEMO else Book.DEMO
    rows = await reports.totals(replace(query, book=book, by=None))
    return {"book": book, "requests": sum(row["requests"] for row in rows)}


def _line(record: Record) -> bytes:
    return orjson.dumps(record_fields(record), option=orjson.OPT_APPEND_NEWLINE)


async def _lines(reports: Reports, query: UsageQuery) -> AsyncIterator[bytes]:
    """In pieces of a few hundred records: one send each would cost more than the reading."""
    lines: list[bytes] = []
    async for record in reports.records(query):
        lines.append(_line(record))
        if len(lines) >= 256:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)
