"""Issue 15, section 4: `GET /models` and `GET /models/{id}`, filtered for each client, kept, and served stale."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from app.domain.errors import (
    ApiError,
    Overloaded,
    RateLimited,
    UpstreamAuthFailed,
    UpstreamErrorReplaced,
    UpstreamUnreachable,
)
from app.domain.request.model_patterns import ModelPatterns
from app.gateway.exchange.key_guard import KeyGuard
from app.gateway.model_list import ModelList
from app.mock.models import MODELS
from app.upstream.api import model_lists
from app.upstream.api.client import UpstreamApi
from app.upstream.api.model_lists import KEPT_SECONDS, MOST_VERSIONS, RETRY_SECONDS, UpstreamModelLists
from app.upstream.wire.target import Target
from app.web.routes.client_rate import FREE_CALLS_A_MINUTE, ClientRate
from tests.cli.stand_in import Reply, standing_in
from tests.conftest import GatewayStarter
from tests.e2e.program import Gateway

NAMES = [model.name for model in MODELS]
BASES = ("/api/v1", "/v1", "")
CODEX = "?client_version=0.171.0"


def sdk(gateway: Gateway, key: str, base: str = "/v1") -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url + base, api_key=key, max_retries=0, timeout=20)


def ids(document: Any) -> list[str]:  # noqa: ANN401 - JSON
    return [entry["id"] for entry in document["data"]]


# -- the program, in front of the mock upstream ----------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_openais_sdk_lists_and_retrieves(mocked: Gateway, base: str) -> None:
    with sdk(mocked, mocked.key, base) as client:
        assert [model.id for model in client.models.list()] == NAMES
        assert client.models.retrieve(NAMES[0]).id == NAMES[0]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("openai/no-such-model")


def test_an_entry_is_upstreams_own(mocked: Gateway) -> None:
    listed = mocked.get("/v1/models", mocked.key).json
    assert listed["object"] == "list"
    assert listed["data"][0]["pricing"]["prompt"] == "0.00000125"
    for path in (f"/v1/models/{NAMES[0]}", "/v1/models/" + NAMES[0].replace("/", "%2F")):
        assert mocked.get(path, mocked.key).json == listed["data"][0]


def test_each_client_sees_what_it_may_use(mocked: Gateway) -> None:
    one, two = mocked.new_key("sees-openai"), mocked.new_key("sees-group")
    mocked.command("clients", "set", "sees-openai", "--models", "openai/gpt-*,mock/free")
    mocked.command("groups", "set", "readers", "--models", "OPENAI/*")
    mocked.command("clients", "set", "sees-group", "--models", "*mini", "--group", "readers")
    openai_models = [name for name in NAMES if name.startswith("openai/gpt-") or name == "mock/free"]
    minis = [name for name in NAMES if name.startswith("openai/") and name.endswith("mini")]
    for key, allowed in ((one, openai_models), (two, minis)):
        listed = mocked.get(f"/v1/models{CODEX}", key).json
        assert ids(listed) == [entry["slug"] for entry in listed["models"]] == allowed
        assert ids(mocked.get("/models", key).json) == allowed
    refused = mocked.get("/v1/models/mock/free", two)
    unknown = mocked.get("/v1/models/mock/none", two)
    assert refused.status == unknown.status == 404
    assert refused.json["error"]["metadata"]["error_type"] == "not_found"
    assert mocked.get("/v1/models/mock/free", one).status == 200


def test_codex_reads_models_and_others_do_not_get_them(mocked: Gateway) -> None:
    answer = mocked.get(f"/api/v1/models{CODEX}", mocked.key).json
    assert [entry["slug"] for entry in answer["models"]] == NAMES
    assert all(entry["base_instructions"] for entry in answer["models"])
    assert "models" not in mocked.get("/api/v1/models", mocked.key).json


def test_an_answer_that_is_known_is_not_sent_again(mocked: Gateway) -> None:
    for path in ("/v1/models", f"/v1/models{CODEX}", "/v1/models/mock/free"):
        first = mocked.get(path, mocked.key)
        etag = first.value("etag")
        assert etag is not None
        for condition in (etag, f'"other", W/{etag}', "*"):
            again = mocked.get(path, mocked.key, {"if-none-match": condition})
            assert (again.status, again.body, again.value("etag")) == (304, b"", etag)
        assert mocked.get(path, mocked.key, {"if-none-match": '"other"'}).body == first.body


def test_a_key_is_needed(mocked: Gateway) -> None:
    for path in ("/models", "/v1/models/mock/free"):
        assert mocked.get(path).status == 401
        assert mocked.get(path, "sk-wb-no").status == 401


@pytest.mark.parametrize("version", ["", "x", "sk-wb-abcdef", "1" * 41, "0.1%00", "0.1%26key=1"])
def test_what_is_no_version_is_refused(mocked: Gateway, version: str) -> None:
    answer = mocked.get(f"/models?client_version={version}", mocked.key)
    assert (answer.status, answer.json["error"]["param"]) == (400, "client_version")


@pytest.mark.parametrize("name", ["", "x" * 6000, "..", "../key", "%2e%2e%2Fkey", "%25", "%ff", "%00", "mock/free/"])
def test_what_is_no_model_is_not_found(mocked: Gateway, name: str) -> None:
    assert mocked.get(f"/v1/models/{name}", mocked.key).status in {400, 404}


def test_it_costs_nothing_and_a_spent_budget_refuses_nothing(mocked: Gateway) -> None:
    key = mocked.new_key("poor")
    mocked.command("clients", "set", "poor", "--rpm", "1", "--budget-tokens", "1/total")
    before = len(mocked.records())
    assert {mocked.get("/models", key).status for _ in range(5)} == {200}
    assert len(mocked.records()) == before


def test_six_hundred_a_minute_each() -> None:
    now = [0.0]
    rate = ClientRate(FREE_CALLS_A_MINUTE, "ask", lambda: now[0])
    for _ in range(FREE_CALLS_A_MINUTE):
        rate.admit("noisy")
    with pytest.raises(RateLimited, match="600 times a minute"):
        rate.admit("noisy")
    rate.admit("calm", 60)
    now[0] = 61.0
    rate.admit("noisy")


def test_versions_that_nobody_keeps_count_more(mocked: Gateway) -> None:
    key = mocked.new_key("many-versions")
    statuses = [mocked.get(f"/models?client_version=9.{number}", key).status for number in range(11)]
    assert statuses == [200] * 10 + [429]
    assert mocked.get("/models", key).status == 429
    assert mocked.get("/models", mocked.key).status == 200


# -- the program, in front of other upstreams ------------------------------------------------------------------------


class Upstream:
    """Answers `GET /models` as `reply` says; `asked` are the paths."""

    def __init__(self) -> None:
        self.reply: Reply = document({"data": [{"id": "a/one"}, {"id": "b/two"}]})
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, _: str, path: str) -> Reply:
        self.asked.append(path)
        self.go.wait(20)
        return self.reply


def document(value: Any) -> Reply:  # noqa: ANN401 - JSON
    return 200, {"content-type": "application/json"}, json.dumps(value).encode()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def url(upstream: Upstream) -> Iterator[str]:
    with standing_in(upstream) as url:
        yield url + "/v1"


def test_an_upstream_without_the_route(
    start_gateway: GatewayStarter, upstream: Upstream, url: str, tmp_path: Path
) -> None:
    upstream.reply = (404, {}, b"{}")
    settings = tmp_path / "weighbridge.toml"
    settings.write_text("[prices.'own/priced']\ninput = '1'\noutput = '2'\n")
    gateway = start_gateway("--config", str(settings), WEIGHBRIDGE_UPSTREAM_URL=url)
    narrow = gateway.new_key("narrow")
    gateway.command("clients", "set", "narrow", "--models", "local/llama,other/*")
    with sdk(gateway, narrow) as client:
        (listed,) = client.models.list()
        assert (listed.id, listed.object, listed.owned_by, listed.created) == ("local/llama", "model", "local", 0)
        assert client.models.retrieve("local/llama") == listed
    with sdk(gateway, gateway.key) as client:
        assert [model.id for model in client.models.list()] == ["own/priced"]
    assert gateway.get(f"/models{CODEX}", narrow).json["models"] == []


def test_an_upstream_that_knows_no_codex(start_gateway: GatewayStarter, url: str) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL=url)
    answer = gateway.get(f"/models{CODEX}", gateway.key)
    assert answer.json == {"object": "list", "data": [{"id": "a/one"}, {"id": "b/two"}], "models": []}


def test_an_upstream_that_is_away(start_gateway: GatewayStarter) -> None:
    gateway = start_gateway(WEIGHBRIDGE_UPSTREAM_URL="http://127.0.0.1:1/v1")
    for _ in range(3):
        answer = gateway.get("/models", gateway.key)
        assert (answer.status, answer.json["error"]["metadata"]["error_type"]) == (502, "upstream_unreachable")
    assert gateway.has_logged("no new list of models") == 1


# -- how lists are kept ----------------------------------------------------------------------------------------------


class Kept:
    """Lists in front of an upstream, with a clock that a test moves."""

    def __init__(self, api: UpstreamApi, upstream: Upstream, key: str) -> None:
        self.seconds = 0.0
        self.upstream = upstream
        self.lists = UpstreamModelLists(api, KeyGuard(key), ["own/priced"], lambda: self.seconds)

    async def names(self, version: str | None = None, *patterns: str) -> list[str]:
        listed = await self.lists.get(version)
        allowed = [ModelPatterns(patterns)] if patterns else []
        return ids(json.loads((await listed.answer(allowed)).body))

    async def fault(self, version: str | None = None) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.lists.get(version)
        return caught.value


@asynccontextmanager
async def kept_lists(upstream: Upstream, url: str, key: str) -> AsyncIterator[Kept]:
    api = UpstreamApi(Target.of(url.replace("localhost", "127.0.0.1")), key)
    kept = Kept(api, upstream, key)
    try:
        yield kept
    finally:
        upstream.go.set()
        await kept.lists.close()
        await api.close()


async def test_a_list_is_fetched_once_and_anew_when_it_is_due(upstream: Upstream, url: str, canary_key: str) -> None:
    async with kept_lists(upstream, url, canary_key) as kept:
        found = await asyncio.gather(*(kept.names() for _ in range(20)))
        assert found == [["a/one", "b/two"]] * 20
        assert await kept.names(None, "a/*") == ["a/one"]
        assert upstream.asked == ["/v1/models"]
        upstream.reply = document({"data": [{"id": "c/three"}]})
        kept.seconds = KEPT_SECONDS
        assert await asyncio.gather(*(kept.names() for _ in range(20))) == [["c/three"]] * 20
        assert len(upstream.asked) == 2


async def test_the_last_list_is_served_while_there_is_no_other(
    upstream: Upstream, url: str, canary_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with kept_lists(upstream, url, canary_key) as kept:
        good, upstream.reply = upstream.reply, (503, {}, b"{}")
        assert isinstance(await kept.fault(), UpstreamErrorReplaced)
        upstream.reply, kept.seconds = good, RETRY_SECONDS
        assert await kept.names() == ["a/one", "b/two"]
        bad: list[Reply] = [(404, {}, b"{}"), (503, {}, b""), (503, {}, b""), (200, {}, b"[")]
        for number, reply in enumerate(bad, start=2):
            upstream.reply, kept.seconds = reply, number * KEPT_SECONDS
            assert await kept.names() == ["a/one", "b/two"]
            assert await kept.names() == ["a/one", "b/two"]
        assert len(upstream.asked) == 6, "once for each time that it was due"
        told = [record.message for record in caplog.records if "no new list" in record.message]
        assert len(told) == 4, "each problem once, the 503 of the list before the first, too"


async def test_a_slow_upstream_holds_up_nobody_who_has_a_list(
    upstream: Upstream, url: str, canary_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_lists, "STALE_WAIT_SECONDS", 0.02)
    async with kept_lists(upstream, url, canary_key) as kept:
        await kept.names()
        upstream.go.clear()
        kept.seconds = KEPT_SECONDS
        for _ in range(3):
            assert await kept.names() == ["a/one", "b/two"]
        assert len(upstream.asked) == 2
        monkeypatch.setattr(model_lists, "FETCH_SECONDS", 0.02)
        assert isinstance(await kept.fault("0.1"), UpstreamUnreachable)


async def test_versions_are_few(upstream: Upstream, url: str, canary_key: str) -> None:
    async with kept_lists(upstream, url, canary_key) as kept:
        for number in range(MOST_VERSIONS + 1):
            await kept.names(f"0.{number}")
        assert [kept.lists.keeps(f"0.{number}") for number in range(MOST_VERSIONS + 1)] == [False, *[True] * 4]
        upstream.go.clear()
        await kept.names("0.4")
        waiting = [asyncio.create_task(kept.lists.get(f"1.{number}")) for number in range(MOST_VERSIONS)]
        while len(upstream.asked) < 2 * MOST_VERSIONS + 1:  # noqa: ASYNC110 - upstream is a thread
            await asyncio.sleep(0.002)
        with pytest.raises(Overloaded):
            await kept.lists.get("2.0")
        upstream.go.set()
        await asyncio.gather(*waiting, kept.names())
        assert upstream.asked[-1] == "/v1/models"


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ((401, {}, b"{}"), UpstreamAuthFailed),
        ((302, {"location": "/"}, b""), UpstreamErrorReplaced),
        ((200, {}, b"not JSON"), UpstreamErrorReplaced),
        ((200, {}, b"null"), UpstreamErrorReplaced),
        ((200, {}, b'{"data":{}}'), UpstreamErrorReplaced),
        ((200, {}, b"[" * 100_000), UpstreamErrorReplaced),
        ((200, {"content-encoding": "gzip"}, b"not gzip"), UpstreamUnreachable),
        ((200, {}, b" " * (16 * 1024 * 1024 + 1)), UpstreamErrorReplaced),
    ],
)
async def test_an_answer_that_is_no_list(
    upstream: Upstream, url: str, canary_key: str, reply: Reply, fault: type[ApiError]
) -> None:
    upstream.reply = reply
    async with kept_lists(upstream, url, canary_key) as kept:
        assert isinstance(await kept.fault(), fault)


async def test_the_servers_key_passes_in_no_list(upstream: Upstream, url: str, canary_key: str) -> None:
    upstream.reply = document({"data": [{"id": canary_key}]})
    async with kept_lists(upstream, url, canary_key) as kept:
        assert isinstance(await kept.fault(), UpstreamErrorReplaced)


async def test_entries_without_a_name_are_left_out() -> None:
    deep = b'{"id":"deep","x":' + b"[" * 500 + b"]" * 500 + b"}"
    odd = [b"1", b"null", b'{"id":5}', b'{"id":""}', b'{"id":"%s"}' % (b"x" * 257), deep, b'{"id":"good","n":[1.5]}']
    for body in (b'{"data":[%s]}', b"[%s]"):
        listed = ModelList.read(body % b",".join(odd), codex=False)
        assert (await listed.answer(())).body == b'{"object":"list","data":[{"id":"good","n":[1.5]}]}'
