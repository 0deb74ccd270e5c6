"""A request whose head came before a change of its client's terms was let in by the old terms, 15 minutes later too."""

from typing import Any

import pytest

from tests.e2e.client import dial, raw_request, receive
from tests.e2e.program import Gateway, eventually
from tests.e2e.replay import ReplayUpstream, document
from tests.e2e.test_limits import MODEL, agree

CALL = {"model": MODEL, "input": "x", "max_output_tokens": 10}


@pytest.mark.parametrize(
    ("before", "change", "status"),
    [
        ({}, {"budget_usd": {"total": "0"}}, 429),
        ({"budget_usd": {"total": "5"}}, {"budget_usd": {"total": "0"}}, 429),
        ({"budget_usd": {"total": "0"}}, {"budget_usd": {"total": "5"}}, 200),
        ({"rpm": 100}, {"models": ["other/*"]}, 403),
        ({"models": ["other/*"]}, {"models": None}, 200),
    ],
    ids=["a budget", "a lower budget", "a higher budget", "an allow-list", "no allow-list"],
)
def test_what_holds_is_what_is_agreed_when_the_request_is_whole(
    gateway: Gateway,
    replay: ReplayUpstream,
    request: pytest.FixtureRequest,
    before: dict[str, Any],
    change: dict[str, Any],
    status: int,
) -> None:
    client = request.node.callspec.id.replace(" ", "-")
    key = gateway.new_key(client)
    agree(gateway, client, **before)
    headers = replay.play(document(b'{"status":"completed"}'))
    call = raw_request(key, CALL, headers={"Connection": "close", **headers})
    with dial(gateway.url) as connection:
        connection.sendall(call[:-5])
        eventually(lambda: gateway.metric("weighbridge_streams_in_flight") == 1, "the call")
        agree(gateway, client, **change)
        connection.sendall(call[-5:])
        answer = receive(connection)
    assert answer.split(b" ")[1] == str(status).encode(), answer
