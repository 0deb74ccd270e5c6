"""Rates of the whole program over two replicas: what a minute lets in, offered more than that through both.

A call was judged somewhere between being sent and being answered. Calls that lie in a minute with both ends were let in
within it; calls that touch it with either end may have been. So nothing here depends on how fast the machine is.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from app.domain.money.rates import PART_NS
from tests.e2e.client import Answer
from tests.e2e.program import Gateway, Mock
from tests.e2e.test_limits import ask, post
from tests.e2e.test_redis import agree
from tests.store.postgres_server import PostgresServer
from tests.store.valkey_server import ValkeyServer

MINUTE = 60.0
PART = PART_NS / 1e9
"""What is taken may count for so much longer than a minute."""

OUTPUT_TOKENS = 200
BODY = ask(max_output_tokens=OUTPUT_TOKENS, metadata={"mock_tokens": str(OUTPUT_TOKENS)})


class Call(NamedTuple):
    """One that was let in, with what it took of the rate; or refused, with nothing. Monotonic seconds."""

    sent: float
    answered: float
    units: int


@pytest.fixture
def replicas(
    mock_process: Mock,
    canary_key: str,
    tmp_path: Path,
    postgres: PostgresServer,
    postgres_url: str,
    valkey: ValkeyServer,
    redis_database: int,
) -> Iterator[tuple[Gateway, Gateway]]:
    env = {
        "WEIGHBRIDGE_UPSTREAM_URL": f"{mock_process.url}/api/v1",
        "WEIGHBRIDGE_DATABASE_URL": postgres_url,
        "WEIGHBRIDGE_REDIS_URL": valkey.url(redis_database),
    }
    with ExitStack() as stack:

        def start(name: str) -> Gateway:
            folder = tmp_path / name
            folder.mkdir()
            return stack.enter_context(Gateway(folder, canary_key, **env))

        one = start("one")
        keys = {name: one.new_key(name) for name in ("requests", "tokens")}
        two = start("two")  # it knows the clients from its start
        for gateway in (one, two):
            gateway.secrets |= {"database": postgres.password, "Redis": valkey.password, **keys}
        yield one, two


def offer(
    gateways: tuple[Gateway, Gateway], client: str, gap: float, end: float, units: Callable[[Answer], int]
) -> list[Call]:
    """Call through both, through each no more than once in `gap` seconds, until the end and a refusal."""
    calls: list[Call] = []

    def call(gateway: Gateway) -> None:
        key = gateways[0].secrets[client]
        refused = False
        while (sent := time.monotonic()) < end or not refused:
            answer = post(gateway, key, BODY)
            answered = time.monotonic()
            assert answer.status in (200, 429), answer.body
            refused = answer.status == 429
            calls.append(Call(sent, answered, 0 if refused else units(answer)))
            time.sleep(max(0.0, sent + gap - answered))

    callers = [threading.Thread(target=call, args=(gateway,)) for gateway in gateways]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return calls


def most_in_a_minute(calls: list[Call]) -> int:
    """The most that was certainly let in within any 60 s: such a stretch may as well begin with a call."""
    return max(
        sum(call.units for call in calls if call.sent >= first.sent and call.answered <= first.sent + MINUTE)
        for first in calls
    )


def least_before_a_refusal(calls: list[Call]) -> int:
    """The least that was let in within a minute and a part, or may have been, at whose end a call was refused."""
    return min(
        sum(call.units for call in calls if call.answered >= no.sent - MINUTE - PART and call.sent <= no.answered)
        for no in calls
        if not no.units
    )


def one_call(answer: Answer) -> int:
    return 1


def its_tokens(answer: Answer) -> int:
    tokens: int = answer.json["usage"]["total_tokens"]
    return tokens


@pytest.mark.parametrize(
    ("rpm", "tpm", "gap", "seconds"),
    [
        (30, 5_000, 0.1, 2),  # the minute does not end: all that there is, and not one more
        pytest.param(600, 150_000, 0.1, 75, marks=[pytest.mark.long, pytest.mark.timeout(180)]),
    ],
)
def test_two_replicas_let_in_what_the_rate_says_while_more_is_offered(
    replicas: tuple[Gateway, Gateway], rpm: int, tpm: int, gap: float, seconds: float
) -> None:
    one, _ = replicas
    agree(one, "requests", rpm=rpm)
    agree(one, "tokens", tpm=tpm)
    time.sleep(1.0)  # a change may take so long to the other
    found: dict[str, list[Call]] = {}
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=lambda: found.update(requests=offer(replicas, "requests", gap, end, one_call))),
        threading.Thread(target=lambda: found.update(tokens=offer(replicas, "tokens", gap, end, its_tokens))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # On a machine that stands still for half a second Redis is taken for gone, and rates are open meanwhile.
    loose = sum(int(each.metric("weighbridge_limiter_unjudged_total", result="admitted")) for each in replicas)
    assert most_in_a_minute(found["requests"]) <= rpm + loose
    assert least_before_a_refusal(found["requests"]) >= rpm
    at_once = 2 * -(-len(str(BODY)) // 3)  # of a call under way at each, more is held than it comes to
    assert most_in_a_minute(found["tokens"]) <= tpm + 2 * OUTPUT_TOKENS * loose
    assert least_before_a_refusal(found["tokens"]) > 0.99 * tpm - OUTPUT_TOKENS - at_once
