"""The hot route on the wire: what is forwarded, what is refused before anything is read, and what errors look like."""

import asyncio
import gzip

import pytest
import zstandard

from app.domain.errors import UpstreamProtocolError, UpstreamUnreachable
from app.domain.records import Outcome
from tests.gateway.house import COMPLETED, CREATED, DELTA, DONE, JSON_CALL, STREAM_CALL, House
from tests.web.front import MAX_BODY_BYTES, Front, RawClient

JSON_TYPE = "content-type: application/json"


@pytest.mark.parametrize("path", ["/api/v1/responses", "/v1/responses", "/responses"])
async def test_a_call_goes_up_and_its_answer_comes_down_byte_for_byte(front: Front, house: House, path: str) -> None:
    client = await front.connect()
    client.call(STREAM_CALL, "x-title: mine", "cookie: a=b", target=path)
    call = await house.upstream.next_call()
    assert (call.request.method, call.request.path, call.request.body) == ("POST", "/responses", STREAM_CALL)
    assert call.request.headers == [(b"content-type", b"application/json"), (b"x-title", b"mine")]
    call.stream_head((b"x-generation-id", b"gen-1"), (b"set-cookie", b"a=b"))
    call.data(CREATED, DELTA, COMPLETED, DONE)
    call.end()
    answer = await client.answer()
    assert (answer.status, answer.body, answer.whole) == (200, CREATED + DELTA + COMPLETED + DONE, True)
    assert answer.header("content-type") == "text/event-stream"
    assert answer.header("x-generation-id") == "gen-1"
    assert answer.header("set-cookie") is None
    assert answer.header("cache-control") == "no-cache, no-transform"
    record = next(iter(house.ledger.settled.values()))
    assert answer.header("x-request-id") == record.request_id
    assert (record.path, record.outcome) == (path, Outcome.COMPLETED)
    await client.close()


async def test_a_fault_of_ours_is_an_error_of_ours(front: Front, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(house.gateway, "open", broken)
    client = await front.connect()
    client.call()
    (await client.answer()).is_ours(500, "internal_error")
    assert house.observer.refusals == {"internal_error": 1}
    await client.close()


async def test_every_chunk_arrives_before_the_next_is_sent(front: Front, house: House) -> None:
    client = await front.connect()
    client.call()
    call = await house.upstream.next_call()
    call.stream_head()
    assert (await client.head())[0] == 200
    for chunk in (CREATED, DELTA, DELTA):
        call.data(chunk)
        assert await client.chunk() == chunk
    call.data(COMPLETED)
    assert await client.chunk() == COMPLETED
    call.end()
    assert await client.chunk() == b""
    await client.close()


async def test_one_connection_carries_call_after_call(front: Front, house: House) -> None:
    client = await front.connect()
    for _ in range(3):
        client.call(JSON_CALL)
        call = await house.upstream.next_call()
        call.json_head(200, (b"content-length", b"2"))
        call.data(b"{}")
        call.end()
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"{}")
    assert house.gateway.in_flight == 0
    await client.close()


async def test_the_end_waits_for_the_commit_on_the_wire_too(front: Front, house: House) -> None:
    house.ledger.at_once = False
    client = await front.connect()
    client.call(JSON_CALL)
    call = await house.upstream.next_call()
    call.json_head(200, (b"content-length", b"2"))
    call.data(b"{}")
    call.end()
    waiting = asyncio.create_task(client.answer())
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    house.ledger.commit()
    assert (await waiting).body == b"{}"
    await client.close()


@pytest.mark.parametrize(
    "authorization",
    [None, "Basic dTpw", "Bearer sk-or-v1-nonsense", "Bearer sk-wb-0123456789", "Bearer"],
)
async def test_who_has_no_key_is_told_before_the_body_is_read(
    front: Front, house: House, authorization: str | None
) -> None:
    client = await front.connect()
    client.key = None
    given = [] if authorization is None else [f"authorization: {authorization}"]
    client.request("POST", "/v1/responses", JSON_TYPE, *given, length=900_000)
    answer = await client.answer()
    error = answer.is_ours(401, "authentication")
    assert answer.header("x-should-retry") == "false"
    assert answer.header("connection") == "close"
    assert authorization is None or authorization.split(" ")[-1] not in error["message"] or authorization == "Bearer"
    assert house.ledger.settled == {}
    await client.close()


async def test_a_refusal_is_seen_by_who_is_still_sending(front: Front) -> None:
    """A connection closed over unread bytes is reset, and the reset overtakes the answer."""
    answer = await front.ask("POST", "/v1/responses", JSON_TYPE, body=b"x" * 900_000)
    answer.is_ours(401, "authentication")
    answer = await front.ask("POST", "/v1/responses", JSON_TYPE, key=front.key, body=b"x" * (MAX_BODY_BYTES + 1))
    answer.is_ours(413, "payload_too_large")


@pytest.mark.parametrize("carrier", ["x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization"])
async def test_a_key_is_carried_in_one_way_only(front: Front, carrier: str) -> None:
    answer = await front.ask("POST", "/v1/responses", JSON_TYPE, f"{carrier}: {front.key}", body=JSON_CALL)
    answer.is_ours(401, "authentication")
    answer = await front.ask("POST", f"/v1/responses?key={front.key}", JSON_TYPE, body=JSON_CALL)
    answer.is_ours(401, "authentication")


@pytest.mark.parametrize("key", ["good", None])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: MTIzNDU2Nzg5MDEyMzQ1Ng==",
        ],
    ],
    ids=["plain", "upgrade"],
)
async def test_a_probe_for_websockets_is_sent_to_http(front: Front, headers: list[str], key: str | None) -> None:
    for path in ("/api/v1/responses", "/v1/responses", "/responses"):
        answer = await front.ask("GET", path, *headers, key=front.key if key else None)
        answer.is_ours(426, "upgrade_not_supported")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_told_which_one_is_served(front: Front, house: House, method: str) -> None:
    answer = await front.ask(method, "/v1/responses", JSON_TYPE, key=front.key, body=JSON_CALL)
    answer.is_ours(405, "invalid_request")
    assert answer.header("allow") == "POST"
    assert house.upstream.calls == []


async def test_head_is_no_method_of_ours_either(front: Front) -> None:
    assert (await front.ask("HEAD", "/v1/responses", key=front.key)).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/responses/",
        "/v1//responses",
        "//v1/responses",
        "/V1/responses",
        "/v1/Responses",
        "/v1%2Fresponses",
        "/v1/%72esponses",
        "/v1/./responses",
        "/v1/../v1/responses",
        "/v1/responses;x",
        "/v1/responses%20",
        "/v2/responses",
        "/api/responses",
        "/api/v1/keys",
        "/v1/chat/completions",
        "/v1/credits",
    ],
)
async def test_only_exact_paths_are_forwarded(front: Front, house: House, path: str) -> None:
    answer = await front.ask("POST", path, JSON_TYPE, key=front.key, body=JSON_CALL)
    answer.is_ours(404, "not_found")
    assert answer.header("location") is None
    assert house.upstream.calls == []
    assert house.ledger.settled == {}


async def test_a_query_does_not_change_the_route(front: Front, house: House) -> None:
    client = await front.connect()
    client.call(JSON_CALL, target="/v1/responses?beta=true")
    call = await house.upstream.next_call()
    call.json_head()
    call.data(b"{}")
    call.end()
    assert (await client.answer()).body == b"{}"
    await client.close()


async def test_a_body_that_is_announced_too_large_is_not_awaited(front: Front, house: House) -> None:
    client = await front.connect()
    client.request("POST", "/v1/responses", JSON_TYPE, length=MAX_BODY_BYTES + 1)
    (await client.answer()).is_ours(413, "payload_too_large")
    record = next(iter(house.ledger.settled.values()))
    assert (record.outcome, record.http_status) == (Outcome.REJECTED, 413)
    await client.close()


async def test_a_body_that_grows_too_large_is_stopped(front: Front, house: House) -> None:
    client = await front.connect()
    client.request("POST", "/v1/responses", JSON_TYPE, "transfer-encoding: chunked")
    for _ in range(MAX_BODY_BYTES // 50_000 + 1):
        client.send(b"c350\r\n" + b" " * 50_000 + b"\r\n")
    (await client.answer()).is_ours(413, "payload_too_large")
    assert house.upstream.calls == []
    await client.close()


@pytest.mark.parametrize("encode", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
async def test_a_coded_body_goes_up_decoded(front: Front, house: House, encode: type[bytes]) -> None:
    coding = "gzip" if encode is gzip.compress else "zstd"
    client = await front.connect()
    client.call(encode(STREAM_CALL), f"content-encoding: {coding}")
    call = await house.upstream.next_call()
    assert call.request.body == STREAM_CALL
    assert call.request.headers == [(b"content-type", b"application/json")]
    client.vanish()
    await asyncio.wait_for(call.cancelled.wait(), 3)


async def test_a_bomb_is_refused(front: Front) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    answer = await front.ask("POST", "/v1/responses", JSON_TYPE, "content-encoding: gzip", key=front.key, body=bomb)
    answer.is_ours(413, "payload_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["content-type: text/plain"],
        ["content-type: application/x-www-form-urlencoded"],
        ["content-type: multipart/form-data; boundary=x"],
        ["content-type: application/jsonp"],
        [JSON_TYPE, "content-encoding: br"],
        [JSON_TYPE, "content-encoding: gzip, gzip"],
    ],
)
async def test_what_is_not_json_is_unsupported(front: Front, house: House, headers: list[str]) -> None:
    answer = await front.ask("POST", "/v1/responses", *headers, key=front.key, body=JSON_CALL)
    answer.is_ours(415, "unsupported_media_type")
    assert house.upstream.calls == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"])
async def test_json_is_json_however_it_is_written(front: Front, kind: str) -> None:
    answer = await front.ask("POST", "/v1/responses", f"content-type: {kind}", key=front.key, body=b"[]")
    answer.is_ours(400, "invalid_request")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"nonsense", None),
        (b'{"model":1}', "model"),
        (b'{"a":1,"a":2}', "a"),
        (rb'{"\ud800":1,"\ud800":2}', None),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, None),
        (rb'{"model":"\ud800"}', "model"),
    ],
)
async def test_a_bad_body_is_a_bad_request(front: Front, house: House, body: bytes, param: str | None) -> None:
    client = await front.connect()
    client.request("POST", "/v1/responses", JSON_TYPE, body=body, length=len(body))
    error = (await client.answer()).is_ours(400, "invalid_request")
    assert error["param"] == param
    assert house.upstream.calls == []
    assert house.gateway.in_flight == 0
    await client.close()


async def test_upstreams_fault_is_our_error(front: Front, house: House) -> None:
    client = await front.connect()
    client.call()
    (await house.upstream.next_call()).broken(UpstreamUnreachable("Upstream does not answer."))
    (await client.answer()).is_ours(502, "upstream_unreachable")
    await client.close()


async def test_upstreams_own_error_passes(front: Front, house: House) -> None:
    client = await front.connect()
    client.call()
    call = await house.upstream.next_call()
    call.json_head(429, (b"retry-after", b"9"))
    call.data(b'{"error":{"code":429}}')
    call.end()
    answer = await client.answer()
    assert (answer.status, answer.body, answer.header("retry-after")) == (429, b'{"error":{"code":429}}', "9")
    await client.close()


async def test_when_it_is_full_or_stopping_it_says_so_before_the_body(front: Front, house: House) -> None:
    clients: list[RawClient] = []
    for _ in range(20):
        clients.append(await front.connect())
        clients[-1].call()
        await house.upstream.next_call()
    one_more = await front.connect()
    one_more.request("POST", "/v1/responses", JSON_TYPE, length=1000)
    answer = await one_more.answer()
    answer.is_ours(503, "overloaded")
    assert answer.header("retry-after") is not None
    for client in clients:
        client.vanish()
    await asyncio.gather(*(asyncio.wait_for(call.cancelled.wait(), 3) for call in house.upstream.calls))
    house.gateway.draining = True
    answer = await front.ask("POST", "/v1/responses", JSON_TYPE, key=front.key, body=JSON_CALL)
    answer.is_ours(503, "draining")
    assert house.gateway.in_flight == 0
    await one_more.close()


@pytest.mark.parametrize("length", [None, b"1000"])
async def test_a_broken_stream_has_no_clean_end(front: Front, house: House, length: bytes | None) -> None:
    client = await front.connect()
    client.call()
    call = await house.upstream.next_call()
    call.stream_head(*([] if length is None else [(b"content-length", length)]))
    call.data(CREATED, DELTA)
    call.broken(UpstreamProtocolError("cut"))
    answer = await client.answer()
    assert (answer.status, answer.body, answer.whole) == (200, CREATED + DELTA, False)
    assert await client.reader.read() == b""
    await client.close()
