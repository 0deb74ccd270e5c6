"""Where upstream is, and under which names we are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings.addresses import (
    is_loopback,
    parse_host,
    parse_host_header,
    parse_origin,
    parse_proxy_url,
    parse_public_url,
    parse_upstream_url,
    upstream_name,
)


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("https://openrouter.ai/api/v1/", "https://openrouter.ai/api/v1"),
        ("HTTPS://API.OpenAI.com/v1//", "https://api.openai.com/v1"),
        ("https://proxy.example.com:8443", "https://proxy.example.com:8443"),
        ("http://127.0.0.1:9797/api/v1", "http://127.0.0.1:9797/api/v1"),
        ("http://127.8.9.1/v1", "http://127.8.9.1/v1"),
        ("http://localhost:9797", "http://localhost:9797"),
        ("http://[::1]:9797/v1", "http://[::1]:9797/v1"),
        ("https://[2001:DB8::1]/v1", "https://[2001:db8::1]/v1"),
        ("https://openrouter.ai/api/v1?", "https://openrouter.ai/api/v1"),
        (
            "https://a.openai.azure.com/openai/v1/?api-version=Preview",
            "https://a.openai.azure.com/openai/v1?api-version=Preview",
        ),
    ],
)
def test_good_upstream_urls(given_url: str, url: str) -> None:
    assert parse_upstream_url(given_url) == url
    assert parse_upstream_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://openrouter.ai/api/v1",
        "http://127.0.0.1.evil.example/v1",
        "http://localhost.evil.example/v1",
        "http://127.1/v1",
        "http://localhost@evil.example/v1",
        "http://evil.example#@localhost/",
        "http://evil.example\\@localhost/",
        "http://0.0.0.0:80/v1",
        "http://[::2]/v1",
        "http://[::1/v1",
        "https://user:password@openrouter.ai/api/v1",
        "https://@openrouter.ai/api/v1",
        "https://openrouter.ai/api/v1?key=password",
        "https://openrouter.ai/api/v1#",
        "https://openrouter.ai/api/v1?a=b#c",
        "https://openrouter.ai/api/v1?api_key=password",
        "https://openrouter.ai/api/v1?a=sk-wb-password",
        "https://openrouter.ai/api/v1/responses",
        "https://openrouter.ai/api/v1/Responses/",
        "https://openrouter.ai/api/v1/responses?a=b",
        "https://openrouter.ai/api/v1/chat/completions",
        "https://[fe80::1%25eth0]/v1",
        "https://[fe80::1%eth0]/v1",
        "https://openrouter.ai:99999/v1",
        "https://openrouter.ai:port/v1",
        "https://openrouter.ai:0/v1",
        "https://open router.ai/v1",
        "https://openrouter.ai/v1\n",
        "https://öpenrouter.ai/v1",
        "https:///v1",
        "ftp://openrouter.ai",
        "openrouter.ai/api/v1",
        "",
    ],
)
def test_bad_upstream_urls_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        parse_upstream_url(url)
    assert "password" not in str(caught.value).replace("user name or password", "")
    assert "openrouter" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("http://user@proxy.example.com:3128/", "http://user@proxy.example.com:3128"),
        ("http://user%40example.com@[::1]:80", "http://user%40example.com@[::1]:80"),
    ],
)
def test_good_proxies(text: str, url: str) -> None:
    assert parse_proxy_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "proxy.example.com:3128",
        "http://proxy.example.com",
        "https://proxy.example.com:3128",
        "socks5://proxy.example.com:1080",
        "http://user:hunter2@proxy.example.com:3128",
        "http://user:@proxy.example.com:3128",
        "http://proxy.example.com:3128/path",
        "http://proxy.example.com:3128?a=hunter2",
        "http://:3128",
        "",
    ],
)
def test_bad_proxies_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        parse_proxy_url(text)
    assert "hunter2" not in str(caught.value)


@given(st.text(st.sampled_from("htps:/@?#[].:1a \\%-"), max_size=24).map("http".__add__))
def test_an_accepted_url_is_stable_and_never_plain_http_to_elsewhere(url: str) -> None:
    try:
        parsed = parse_upstream_url(url)
    except ValueError:
        return
    assert parse_upstream_url(parsed) == parsed
    assert parsed.startswith("https://") or is_loopback(upstream_name(parsed))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://eu.openrouter.ai/api/v1", "openrouter"),
        ("https://api.openai.com/v1", "openai"),
        ("https://team.openai.azure.com/openai/v1", "azure"),
        ("https://notopenrouter.ai/v1", "notopenrouter.ai"),
        ("http://127.0.0.1:9797", "127.0.0.1"),
        ("http://[::1]:9797", "::1"),
    ],
)
def test_upstream_names(url: str, name: str) -> None:
    assert upstream_name(url) == name


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("LocalHost", "localhost"),
        ("[::1]", "::1"),
        ("::", "::"),
        ("192.0.2.1", "192.0.2.1"),
        ("gw.example.com", "gw.example.com"),
    ],
)
def test_hosts(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("text", ["", "*", "a b", "http://a", "a:80", "a/b", "[a]", "-a", "user@a", "a,b"])
def test_what_is_not_a_host(text: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        parse_host(text)


def test_a_host_header_has_ipv6_in_brackets() -> None:
    assert parse_host_header("::1") == "[::1]"
    assert parse_host_header("Example.COM") == "example.com"


@pytest.mark.parametrize(
    ("given_origin", "origin"),
    [
        ("https://App.Example.com", "https://app.example.com"),
        (" https://app.example.com:443 ", "https://app.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("https://localhost:80", "https://localhost:80"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_good_origins(given_origin: str, origin: str) -> None:
    assert parse_origin(given_origin) == origin
    assert parse_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "*",
        "null",
        "app.example.com",
        "https://",
        "https://*.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?x",
        "https://app.example.com#x",
        "https://user@app.example.com",
        "https://app.example.com:0",
        "https://app.example.com:99999",
        "https://app.example.com https://other.example.com",
        "://app.example.com",
    ],
)
def test_bad_origins(origin: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_origin(origin)


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("https://gateway.example.com/", "https://gateway.example.com"),
        (" HTTP://10.0.0.5:8787", "http://10.0.0.5:8787"),
        ("https://Gateway.example.com:443", "https://gateway.example.com"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_good_public_urls(given_url: str, url: str) -> None:
    assert parse_public_url(given_url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.example.com",
        "https://",
        "ftp://gateway.example.com",
        "https://gateway.example.com/api/v1",
        "https://gateway.example.com?x",
        "https://user@gateway.example.com",
        "https://gateway.example.com:99999",
        "https://gateway example.com",
    ],
)
def test_bad_public_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_public_url(url)
