"""RequestRules: which heads are judged how, each rule by itself."""

import pytest

from app.web.connection.request_rules import RequestRules, judge_old_version

RULES = RequestRules(
    frozenset([b"localhost", b"127.0.0.1", b"[::1]", b"gateway.example.com"]),
    frozenset([b"https://app.example.com", b"chrome-extension://abc"]),
)


def judged(*headers: tuple[str, str], host: str = "localhost:8787", target: str = "/v1/responses") -> str | None:
    pairs = [(name.encode(), value.encode()) for name, value in (("host", host), *headers)]
    error = RULES.judge(target.encode(), pairs)
    return None if error is None else error.error_type


@pytest.mark.parametrize("origin", ["https://app.example.com", "chrome-extension://abc", "http://localhost:8787"])
@pytest.mark.parametrize("site", [None, "cross-site", "same-site", "same-origin"])
def test_a_named_origin_and_our_own_may(origin: str, site: str | None) -> None:
    assert judged(("origin", origin), *((("sec-fetch-site", site),) if site else ())) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "*",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil.example",
        "https://evil.example/https://app.example.com",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8787",
        "ftp://localhost:8787",
        "localhost:8787",
        "http://localhost:8787/",
        "https://app.example.com https://evil.example",
    ],
)
def test_any_other_origin_may_not(origin: str) -> None:
    assert judged(("origin", origin)) == "origin_not_allowed"
    assert judged(("origin", origin), ("sec-fetch-site", "same-origin")) == "origin_not_allowed"
    assert judged(("origin", origin), target="/healthz") == "origin_not_allowed"


def test_our_own_origin_is_the_host_that_is_called() -> None:
    assert judged(("origin", "https://gateway.example.com"), host="Gateway.Example.com") is None
    assert judged(("origin", "http://[::1]:8787"), host="[::1]:8787") is None
    assert judged(("origin", "http://evil.example"), host="evil.example") == "misdirected_request"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "anything"])
def test_a_page_that_names_no_origin_may_not(site: str) -> None:
    assert judged(("sec-fetch-site", site)) == "origin_not_allowed"
    assert judged(("sec-fetch-site", site), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")) is not None
    assert judged(("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")) is not None


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_pages_and_typed_addresses_may(site: str) -> None:
    assert judged(("sec-fetch-site", site)) is None


def test_a_link_may_be_followed_from_anywhere() -> None:
    link = (("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))
    assert judged(*link, target="/") is None
    assert judged(*link, ("origin", "https://evil.example")) == "origin_not_allowed", "a form that is sent names one"


def test_programs_are_not_asked_for_an_origin() -> None:
    assert judged() is None
    assert judged(("sec-fetch-mode", "cors")) is None, "Node's fetch sends this one"


@pytest.mark.parametrize("name", ["origin", "sec-fetch-site", "host", "authorization", "content-type"])
def test_what_decides_comes_once(name: str) -> None:
    twice = ((name, "https://app.example.com"),) * 2
    assert judged(*twice) == "invalid_request"


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "0.0"])
def test_other_versions_of_http(version: str) -> None:
    error = judge_old_version(version, [])
    assert error is not None
    assert error.status == 400


def test_chunks_in_http_1_0() -> None:
    assert judge_old_version("1.0", [(b"host", b"x")]) is None
    assert judge_old_version("1.0", [(b"transfer-encoding", b"chunked")]) is not None
