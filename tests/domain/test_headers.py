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
NEVER_UPSTREAM = f"""{HOP_BY_HOP} host content-length content-encoding expect accept-encoding
    authorization api-key x-api-key x_api_key x-goog-api-key apikey x-auth-token x-access-token x_session_token
    x-openai-api-key x-openrouter-api-key x-stainless-secret x-amz-security-token x-functions-key-secret
    cookie cookie2 x-password chatgpt-account-id openai-organization openai-project
    traceparent tracestate baggage x-weighbridge-client proxy-foo"""
STAY_FROM_UPSTREAM = f"""{NEVER_UPSTREAM}
    forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip via cf-connecting-ip cf-ray true-client-ip
    origin referer sec-fetch-mode sec-fetch-site sec-websocket-key accept-language x-unknown
    x-portkey-custom-host helicone-target-url x-http-method-override x-stainless x-openrouter"""
TO_OPENAI = """originator version session-id thread-id x-codex-window-id x-codex-turn-metadata x-openai-subagent
    x-oai-attestation x-responsesapi-include-timing-metrics"""
CROSS_TO_UPSTREAM = """content-type accept user-agent openai-beta idempotency-key x-client-request-id
    x-stainless-lang x-stainless-retry-count x-stainless-timeout http-referer x-title x-openrouter-title
    x-openrouter-categories x-openrouter-metadata x-openrouter-cache x-openrouter-cache-ttl x-session-id
    x-codex-turn-state"""
STAY_FROM_CLIENT = f"""{HOP_BY_HOP} set-cookie set-cookie2 alt-svc strict-transport-security openai-organization
    openai-project www-authenticate clear-site-data access-control-allow-origin access-control-allow-credentials
    x-weighbridge-client"""
CROSS_TO_CLIENT = """content-type content-length content-encoding x-request-id x-generation-id retry-after
    retry-after-ms x-should-retry x-ratelimit-limit-requests x-ratelimit-remaining-tokens x-ratelimit-reset
    openai-processing-ms openai-version openai-model x-reasoning-included x-models-etag x-codex-turn-state
    x-codex-primary-used-percent x-codex-credits-balance x-openrouter-cache-status cf-ray cache-control vary
    date server"""


def towards_openai() -> HeaderRule:
    return towards_upstream(openai=True)


def all_that_may() -> HeaderRule:
    return towards_upstream(more=["*"])


TABLE = [
    *((towards_upstream, name, False) for name in f"{STAY_FROM_UPSTREAM} {TO_OPENAI}".split()),
    *((towards_upstream, name, True) for name in CROSS_TO_UPSTREAM.split()),
    *((towards_openai, name, False) for name in STAY_FROM_UPSTREAM.split()),
    *((towards_openai, name, True) for name in f"{CROSS_TO_UPSTREAM} {TO_OPENAI}".split()),
    *((all_that_may, name, False) for name in NEVER_UPSTREAM.split()),
    *((all_that_may, name, True) for name in f"{CROSS_TO_UPSTREAM} {TO_OPENAI} x-unknown via".split()),
    *((towards_client, name, False) for name in STAY_FROM_CLIENT.split()),
    *((towards_client, name, True) for name in CROSS_TO_CLIENT.split()),
]
RULES = [all_that_may, towards_client]


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


@pytest.mark.parametrize(
    ("glob", "name", "crosses"),
    [
        ("x-tenant", b"x-tenant", True),
        ("x-tenant", b"x-tenant-2", False),
        ("x-tenant*", b"x-tenant-2", True),
        ("x-?", b"x-a", True),
        ("x-?", b"x-ab", False),
        ("x-*-key", b"x-api-key", False),
        ("*", b"x-caf\xe9", True),
    ],
)
def test_globs_add_names(glob: str, name: bytes, crosses: bool) -> None:
    assert bool(towards_upstream(more=["other", glob]).select([(name, b"1")])) is crosses


def test_a_dropped_name_is_told_once() -> None:
    told: list[str] = []
    rule = towards_upstream(dropped=told.append)
    for _ in range(2):
        rule.select([(b"x-tenant", b"value"), (b"accept", b"*/*"), (b"cookie", b"a=b"), (b"host", b"h"), (b"te", b"")])
    assert told == ["x-tenant", "cookie"]


def test_dropped_names_are_told_of_a_bounded_number() -> None:
    told: list[str] = []
    rule = towards_upstream(dropped=told.append)
    for number in range(3000):
        rule.select([(b"x-%d" % number, b""), (b"x" * 65, b"")])
    assert len(told) == 256


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
