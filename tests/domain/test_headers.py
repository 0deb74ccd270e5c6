"""Which headers cross, by the table of the protocol's reference."""

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.headers import HeaderRule, Headers, towards_client, towards_upstream, value_of

MakeRule = Callable[[], HeaderRule]
HOP_BY_HOP = """connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer
    transfer-encoding upgrade http2-settings"""
STAY_FROM_UPSTREAM = f"""{HOP_BY_HOP} host content-length content-encoding expect accept-encoding
    authorization api-key x-api-key x-goog-api-key cookie chatgpt-account-id openai-organization openai-project
    forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip via cf-connecting-ip cf-ray true-client-ip
    traceparent tracestate baggage origin referer sec-fetch-mode sec-fetch-site sec-websocket-key
    x-weighbridge-client"""
CROSS_TO_UPSTREAM = """content-type accept accept-language user-agent openai-beta idempotency-key x-client-request-id
    x-stainless-lang x-stainless-retry-count x-stainless-timeout http-referer x-title x-openrouter-title
    x-openrouter-categories x-openrouter-metadata x-openrouter-cache x-openrouter-cache-ttl x-session-id originator
    version session-id thread-id x-codex-window-id x-codex-turn-metadata x-codex-turn-state x-openai-subagent"""
STAY_FROM_CLIENT = f"""{HOP_BY_HOP} set-cookie set-cookie2 alt-svc strict-transport-security openai-organization
    openai-project www-authenticate clear-site-data access-control-allow-origin access-control-allow-credentials
    x-weighbridge-client"""
CROSS_TO_CLIENT = """content-type content-length content-encoding x-request-id x-generation-id retry-after
    retry-after-ms x-should-retry x-ratelimit-limit-requests x-ratelimit-remaining-tokens x-ratelimit-reset
    openai-processing-ms openai-version openai-model x-reasoning-included x-models-etag x-codex-turn-state
    x-codex-primary-used-percent x-codex-credits-balance x-openrouter-cache-status cf-ray cache-control vary
    date server"""

TABLE = [
    *((towards_upstream, name, False) for name in STAY_FROM_UPSTREAM.split()),
    *((towards_upstream, name, True) for name in CROSS_TO_UPSTREAM.split()),
    *((towards_client, name, False) for name in STAY_FROM_CLIENT.split()),
    *((towards_client, name, True) for name in CROSS_TO_CLIENT.split()),
]
RULES = [towards_upstream, towards_client]


@pytest.mark.parametrize(("rule", "name", "crosses"), TABLE)
def test_the_table(rule: MakeRule, name: str, crosses: bool) -> None:
    header = (name.encode(), b"value")
    assert rule().select([header]) == ([header] if crosses else [])


@pytest.mark.parametrize("make", RULES)
def test_order_and_repeats_stay(make: MakeRule) -> None:
    headers = [(b"x-b", b"1"), (b"connection", b"close"), (b"x-a", b""), (b"x-b", b"2"), (b"x-b", b"1")]
    rule = make()
    expected = [header for header in headers if header[0] != b"connection"]
    assert rule.select(headers) == rule.select(iter(headers)) == expected


@pytest.mark.parametrize("make", RULES)
@pytest.mark.parametrize(
    "connection",
    [
        [(b"connection", b"close, X-Hop ,x-other")],
        [(b"connection", b"x-hop"), (b"connection", b"Keep-Alive,x-other")],
        [(b"connection", b",x-hop,,x-other,")],
    ],
)
def test_what_connection_lists_stays_wherever_it_stands(make: MakeRule, connection: Headers) -> None:
    rule = make()
    headers = [(b"x-hop", b"1"), (b"x-keep", b"2"), *connection, (b"x-other", b"3"), (b"x-hop", b"4")]
    assert rule.select(headers) == [(b"x-keep", b"2")]
    assert rule.select([(b"x-hop", b"1")]) == [(b"x-hop", b"1")], "only for the message that said so"


def test_connection_cannot_name_a_credential_into_crossing() -> None:
    headers = [(b"connection", b"authorization"), (b"authorization", b"Bearer sk-wb-x")]
    assert towards_upstream().select(headers) == []


@given(st.lists(st.tuples(st.sampled_from([b"x-a", b"cookie", b"te", b"cf-x", b"accept"]), st.binary(max_size=3))))
def test_memory_changes_nothing(headers: Headers) -> None:
    rule = towards_upstream()
    assert rule.select(headers) == rule.select(headers) == towards_upstream().select(headers)


@pytest.mark.parametrize("make", RULES)
@pytest.mark.parametrize("length", [10, 60_000])
def test_strange_names_cost_a_bounded_memory(make: MakeRule, length: int) -> None:
    rule = make()
    for number in range(3000):
        name = b"x-%d" % number + b"y" * length
        assert rule.select([(name, b"")]) == [(name, b"")]
    remembered = rule._crosses
    assert sum(sys.getsizeof(name) for name in remembered) < 300_000
    assert rule.select([(b"cookie", b"a"), (b"accept", b"b")])[-1:] == ([(b"accept", b"b")])


def test_the_first_value_counts() -> None:
    headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert (value_of(headers, b"a"), value_of(headers, b"b"), value_of(headers, b"c")) == (b"1", b"2", None)
