"""Clients may ask for their own figures once a second on average, and slow nobody by it (issue 12, E11)."""

import http.client
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from app.domain.records import Book
from app.gateway.usage_query import UsageQuery
from app.store.query.totals import totals_of
from tests.conftest import GatewayStarter
from tests.e2e.client import ASK, Answer, encoded
from tests.e2e.program import Gateway, Mock

ALLOWED = 60
FLOOD_A_SECOND = 50
CALLS = 60
SLOWER_SECONDS = 0.025
"""What the median of others' calls may grow by; it was 0.074."""


@pytest.fixture
def house(mock_process: Mock, start_gateway: GatewayStarter) -> Gateway:
    gateway: Gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1")
    return gateway


def ask(gateway: Gateway, key: str, path: str = "/usage") -> Answer:
    return gateway.get(path, key)


def test_sixty_a_minute_each(house: Gateway) -> None:
    noisy, calm = house.new_key("noisy"), house.new_key("calm")
    answers = [ask(house, noisy, ("/usage", "/key", "/v1/usage")[number % 3]) for number in range(ALLOWED)]
    assert {answer.status for answer in answers} == {200}
    refused = ask(house, noisy)
    assert (refused.status, refused.json["error"]["metadata"]["error_type"]) == (429, "rate_limited")
    assert 0 < int(dict(refused.headers)["retry-after"]) <= 61
    assert ask(house, noisy, "/key").status == 429
    assert ask(house, calm).status == 200
    assert house.metric("weighbridge_refusals_total", reason="rate_limited") == 2
    house.key = noisy
    assert house.post(ASK).status == 200  # calls are no questions


def test_figures_follow_calls_at_once(house: Gateway) -> None:
    spent = Decimal(0)
    for count in range(1, 4):
        house.post(ASK)
        told = ask(house, house.key).json
        assert told["total"]["requests"] == count
        assert Decimal(told["total"]["cost_usd"]) > spent
        spent = Decimal(told["total"]["cost_usd"])
        assert ask(house, house.key, "/key").json["data"]["usage"] == pytest.approx(float(spent))


def test_a_statement_is_made_once() -> None:
    one = totals_of(UsageQuery(since=1, client="alice", by="day", book=Book.REAL))
    two = totals_of(UsageQuery(since=10**15 + 1, client="bob", by="day", book=Book.REAL))
    assert one.statement is two.statement
    assert one.values != two.values


def test_nobodys_calls_wait_behind_questions(house: Gateway) -> None:
    noisy = house.new_key("noisy")
    alone = statistics.median(seconds_of_calls(house))
    done = threading.Event()
    statuses: list[int] = []

    def flood() -> None:
        with closing(http.client.HTTPConnection(urlsplit(house.url).netloc, timeout=20)) as connection:
            while not done.is_set():
                connection.request("GET", "/usage", headers={"authorization": f"Bearer {noisy}"})
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
                done.wait(1 / FLOOD_A_SECOND)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        flooded = statistics.median(seconds_of_calls(house))
    finally:
        done.set()
        thread.join()
    assert len(statuses) > CALLS / 4
    assert 200 in statuses
    assert flooded < alone + SLOWER_SECONDS, f"{alone * 1000:.1f} ms alone, {flooded * 1000:.1f} ms beside questions"


def seconds_of_calls(house: Gateway) -> Iterator[float]:
    with closing(http.client.HTTPConnection(urlsplit(house.url).netloc, timeout=20)) as connection:
        headers = {"authorization": f"Bearer {house.key}", "content-type": "application/json"}
        for _ in range(CALLS):
            begin = time.perf_counter()
            connection.request("POST", "/v1/responses", encoded(ASK), headers)
            response = connection.getresponse()
            response.read()
            yield time.perf_counter() - begin
            assert response.status == 200
            time.sleep(0.01)  # a pace, not a wait: the questions come beside the calls
