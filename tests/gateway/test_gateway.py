"""Admission, the room that is left, and what is sent upstream."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import AuthenticationFailed, Draining, InvalidRequest, Overloaded
from app.domain.records import Outcome
from tests.gateway.house import COMPLETED, House


def test_a_good_key_is_a_ticket(house: House) -> None:
    key = house.make_key("bob")
    ticket = house.gateway.admit(f"Bearer {key.text}".encode())
    assert (ticket.client, ticket.key_id) == ("bob", key.key_id)
    assert not house.observer.refusals


def test_a_refused_caller_leaves_no_record_and_is_counted_by_who_answers(house: House) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        house.gateway.admit(None)
    assert not house.observer.refusals
    house.gateway.refused(refused.value, None, "POST /v1/responses")
    assert house.observer.refusals == {"authentication": 1}
    assert (house.gateway.in_flight, house.ledger.settled) == (0, {})


def test_the_bytes_that_came_go_upstream_without_what_must_stay(house: House) -> None:
    body = b'{ "stream" : true,\n "model":"\xc3\xa9" }'
    headers = [(b"authorization", b"Bearer sk-wb-x"), (b"x-title", b"t"), (b"content-type", b"application/json")]
    visit = house.visit(body, headers)
    request = visit.upstream.request
    assert (request.method, request.path, request.body) == ("POST", "/responses", body)
    assert request.headers == headers[1:]
    assert house.ledger.admitted == [visit.exchange.record.request_id]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a":1,"a":2}', b'{"stream":1}', b"\xff"])
def test_a_body_that_is_refused_never_goes_upstream(house: House, body: bytes) -> None:
    visit = house.visit(body)
    assert house.upstream.calls == []
    assert visit.client.ending is None
    visit.commit()
    assert isinstance(visit.client.error, InvalidRequest)
    record = visit.record
    assert (record.outcome, record.http_status, record.error_type) == (Outcome.REJECTED, 400, "invalid_request")
    assert (record.bytes_in, record.bytes_out, record.model_requested) == (len(body), 0, None)
    assert house.observer.refusals == {"invalid_request": 1}
    assert house.gateway.in_flight == house.observer.streams == 0


def test_there_is_room_for_so_many_streams_and_no_more() -> None:
    house = House(max_streams=2)
    visits = []
    for _ in range(2):
        visits.append(house.visit())
        assert house.gateway.room("alice") is None
    third = house.arrive()
    full = house.gateway.room("alice")
    assert isinstance(full, Overloaded)
    third.exchange.reject(full)
    third.commit()
    assert third.client.error is full
    assert (third.record.outcome, third.record.http_status, third.record.error_type) == (
        Outcome.REJECTED,
        503,
        "overloaded",
    )
    house.upstream.calls[0].stream_head()
    house.upstream.calls[0].data(COMPLETED)
    assert house.gateway.in_flight == house.observer.streams == 1
    house.visit()
    assert house.gateway.room("alice") is None


def test_one_client_does_not_shut_out_another() -> None:
    house = House(max_streams=20)
    for _ in range(20):
        house.arrive()
        assert house.gateway.room("alice") is None
    for _ in range(5):
        flood = house.arrive()
        refusal = house.gateway.room("alice")
        assert isinstance(refusal, Overloaded)
        flood.exchange.reject(refusal)
    for client in ("bob", "carol"):
        house.arrive(client)
        assert house.gateway.room(client) is None, "a tenth more is for those who have nothing"
    house.arrive("dave")
    assert isinstance(house.gateway.room("dave"), Overloaded)


@given(st.integers(1, 60), st.lists(st.sampled_from("abcdefgh"), max_size=150))
def test_the_room_is_bounded_and_a_newcomer_finds_a_place(most: int, comers: list[str]) -> None:
    """However few clients crowd in, at any time one that holds nothing may begin; and a tenth more is the limit."""
    house = House(max_streams=most)
    held: Counter[str] = Counter()
    for client in comers:
        exchange = house.arrive(client).exchange
        refusal = house.gateway.room(client)
        if refusal is None:
            held[client] += 1
        else:
            assert held.total() >= most
            exchange.reject(refusal)
    assert held.total() <= most + max(1, most // 10)
    if len(held) <= 1:
        house.arrive("zoe")
        assert house.gateway.room("zoe") is None


def test_a_loop_that_is_late_takes_no_calls(house: House) -> None:
    house.gateway.overloaded = True
    assert isinstance(house.gateway.room("alice"), Overloaded)
    house.gateway.overloaded = False
    assert house.gateway.room("alice") is None


def test_who_comes_while_we_stop_is_told_so(house: House) -> None:
    house.gateway.draining = True
    assert isinstance(house.gateway.room("alice"), Draining)


def test_ids_rise(house: House) -> None:
    ids = [house.gateway.new_id() for _ in range(3)]
    assert ids == sorted(set(ids))
