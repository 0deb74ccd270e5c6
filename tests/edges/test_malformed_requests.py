"""Smuggling and other malformed requests: one answer each, nothing smuggled reaches upstream, the connection ends."""

import pytest

from tests.e2e.program import Gateway
from tests.edges.conftest import REQUEST_SECONDS
from tests.edges.fault_server import GOOD_BODY, FaultServer
from tests.edges.malformed import BODY, MARK, REFUSED, SMUGGLED, UNFINISHED, WELL_FORMED, raw
from tests.edges.raw_client import Heard, ours, request, say

AT_ONCE_SECONDS = 2.0
UPSTREAM_LINE = b"POST /api/v1/responses HTTP/1.1"


def with_key(edge: Gateway, data: bytes) -> bytes:
    return data.replace(b"@KEY@", edge.key.encode())


def reached(fault_server: FaultServer, edge: Gateway) -> tuple[list[bytes], list[bytes]]:
    """The heads and bodies that reached upstream before a good call, which comes last and is not among them."""
    assert say(edge.url, request(edge.key)).only.body == GOOD_BODY
    heads, bodies = fault_server.heads[:-1], fault_server.bodies[:-1]
    fault_server.forget()
    assert {head.split(b"\r\n", 1)[0] for head in heads} <= {UPSTREAM_LINE}
    assert not any(MARK in head.lower() for head in heads)
    return heads, bodies


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("pieces", ["whole", "in two"])
def test_one_answer_and_the_connection_ends(edge: Gateway, fault_server: FaultServer, name: str, pieces: str) -> None:
    data, status, error_type = REFUSED[name]
    data = with_key(edge, data)
    fault_server.forget()
    middle = data.find(b"\r\n\r\n") + 4 if pieces == "in two" else len(data)
    heard = say(edge.url, data[:middle], data[middle:])
    assert (heard.only.status, heard.only.error_type) == (status, error_type)
    ours(heard.only)
    assert (heard.only.value("connection"), heard.ending) == ("close", "closed")
    assert heard.seconds < AT_ONCE_SECONDS
    assert reached(fault_server, edge) == ([], [])


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_never_becomes_whole_is_cut_off_in_time(edge: Gateway, fault_server: FaultServer, name: str) -> None:
    data, begun = UNFINISHED[name]
    fault_server.forget()
    heard = say(edge.url, with_key(edge, data))
    if begun:
        assert (heard.only.status, heard.only.error_type) == (408, "request_timeout")
        ours(heard.only)
    else:
        assert heard.raw == b""
    assert heard.ending == "closed"
    assert REQUEST_SECONDS <= heard.seconds < REQUEST_SECONDS + AT_ONCE_SECONDS
    assert reached(fault_server, edge) == ([], [])


@pytest.mark.parametrize("name", WELL_FORMED)
@pytest.mark.parametrize("pieces", ["whole", "in two", "byte by byte"])
def test_what_is_well_formed_is_served_once(edge: Gateway, fault_server: FaultServer, name: str, pieces: str) -> None:
    data = with_key(edge, WELL_FORMED[name])
    fault_server.forget()
    middle = data.find(b"\r\n\r\n") + 4
    cuts = {"whole": [data], "in two": [data[:middle], data[middle:]], "byte by byte": [bytes([byte]) for byte in data]}
    heard = say(edge.url, *cuts[pieces])
    assert (heard.only.status, heard.only.body, heard.only.whole) == (200, GOOD_BODY, True)
    heads, bodies = reached(fault_server, edge)
    assert (len(heads), bodies) == (1, [BODY])
    assert edge.key.encode() not in heads[0]


def test_requests_behind_each_other_are_answered_in_order(edge: Gateway, fault_server: FaultServer) -> None:
    fault_server.forget()
    probe = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    good = with_key(edge, WELL_FORMED["in chunks"])
    heard = say(edge.url, good + probe + good + probe, answers=4)
    assert [answer.body for answer in heard.answers] == [GOOD_BODY, b'{"status":"ok"}'] * 2
    assert heard.ending == "open"
    assert len(reached(fault_server, edge)[0]) == 2


@pytest.mark.parametrize(
    ("junk", "status"),
    [(b"\0", 400), (b"GET\r\n\r\n", 400), (b"POST /v1/responses HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421)],
)
def test_junk_behind_a_request_is_refused_behind_its_answer(
    edge: Gateway, fault_server: FaultServer, junk: bytes, status: int
) -> None:
    fault_server.forget()
    heard = say(edge.url, with_key(edge, WELL_FORMED["as it should be"]) + junk, answers=9)
    good, refused = heard.answers
    assert (good.status, good.body, good.whole) == (200, GOOD_BODY, True)
    assert (refused.status, refused.value("connection"), heard.ending) == (status, "close", "closed")
    ours(refused)
    assert len(reached(fault_server, edge)[0]) == 1


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize("apart", [False, True])
def test_behind_an_offered_upgrade_the_body_is_a_body(
    edge: Gateway, fault_server: FaultServer, upgrade: bytes, apart: bool
) -> None:
    """llhttp would have the rest be another protocol; a body in a packet of its own was taken for a request."""
    body = with_key(edge, SMUGGLED)
    offer = (b"Connection: upgrade", b"Upgrade: " + upgrade, b"Content-Length: %d" % len(body))
    data = with_key(edge, raw(*offer, body=body))
    fault_server.forget()
    middle = data.find(b"\r\n\r\n") + 4 if apart else len(data)
    heard: Heard = say(edge.url, data[:middle], data[middle:])
    assert (heard.only.status, heard.only.error_type) == (400, "invalid_request")
    assert "not JSON" in ours(heard.only)["message"]
    assert reached(fault_server, edge) == ([], [])


def test_a_connection_goes_on_behind_an_offered_upgrade(edge: Gateway) -> None:
    probe = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    heard = say(edge.url, probe + probe, answers=2)
    assert [(answer.status, answer.body) for answer in heard.answers] == [(200, b'{"status":"ok"}')] * 2


def test_a_body_that_waits_to_be_asked_for(edge: Gateway) -> None:
    data = with_key(edge, raw(b"Expect: 100-continue", b"Content-Length: %d" % len(BODY)))
    heard = say(edge.url, data)
    assert (heard.interim, heard.only.status, heard.only.body) == (1, 200, GOOD_BODY)


@pytest.mark.parametrize(
    ("part", "instead", "status"),
    [
        (b"Bearer @KEY@", b"Bearer nobody", 401),
        (b"application/json", b"text/plain", 415),
        (b"localhost", b"evil.example", 421),
        (b": 27", b": 99999999", 413),
    ],
)
def test_what_is_refused_is_not_asked_for(edge: Gateway, part: bytes, instead: bytes, status: int) -> None:
    data = raw(b"Expect: 100-continue", b"Content-Length: 27", body=b"").replace(part, instead)
    heard = say(edge.url, with_key(edge, data))
    assert (heard.interim, heard.only.status) == (0, status)
