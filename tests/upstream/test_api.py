"""What upstream tells beside answering calls: its usage records, its account, its statements; over real connections."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from app.domain.answer.extras import Extras
from app.domain.answer.usage import Usage
from app.domain.identity.kept_ids import kept_id
from app.domain.money.amounts import NANOUSD_PER_USD
from app.domain.money.reconciliation import Sums
from app.domain.records import Record
from app.gateway.ports import StillRunning, UpstreamSpending, UpstreamUsage, UsageNotKept
from app.mock.options import MockOptions
from app.mock.pace import Pace
from app.mock.server import running_mock
from app.upstream.api.account import OpenRouterAccount
from app.upstream.api.client import MOST_BYTES, UpstreamApi, UpstreamQueryFailed
from app.upstream.api.http_client import upstream_client
from app.upstream.api.statements import Credits, openai_statement, openrouter_statement
from app.upstream.api.usage_lookup import UpstreamUsageLookup
from app.upstream.wire.target import Target
from tests.upstream.conftest import KEY, Scene
from tests.upstream.raw_server import Peer

DAY = 86_400
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()  # a Sunday
GENERATION = {
    "model": "openai/gpt-5.5",
    "native_tokens_prompt": 11,
    "native_tokens_completion": 22,
    "native_tokens_reasoning": 5,
    "native_tokens_cached": 4,
    "tokens_prompt": 9,
    "tokens_completion": 19,
    "total_cost": 0.001234567,
}


@pytest.fixture
async def answered(scene: Scene) -> AsyncIterator["Answers"]:
    answers = Answers()
    server = await scene.serve(answers.script)
    api = UpstreamApi(Target.of(f"http://127.0.0.1:{server.port}/api/v1"), KEY)
    answers.lookup, answers.account = UpstreamUsageLookup(api), OpenRouterAccount(api)
    answers.api = api
    yield answers
    await api.close()


class Answers:
    """A server that gives one answer, whatever is asked; and what was asked."""

    lookup: UpstreamUsageLookup
    account: OpenRouterAccount
    api: UpstreamApi

    def __init__(self) -> None:
        self.status, self.body = "200 OK", b"{}"
        self.heads: list[bytes] = []

    def give(self, value: Any, status: str = "200 OK") -> None:  # noqa: ANN401 - JSON
        self.status, self.body = status, value if isinstance(value, bytes) else json.dumps(value).encode()

    async def script(self, peer: Peer) -> None:
        while (head := await peer.head()) is not None:
            self.heads.append(head)
            await peer.send(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n" % (self.status.encode(), len(self.body)))
            await peer.send(self.body)


def of_generation(generation_id: str = "gen-1") -> Record:
    return Record("req_1", 0, "alice", "key", "up", "/responses", generation_id=generation_id)


async def test_an_id_that_was_not_kept_whole_is_not_asked_about(answered: Answers) -> None:
    kept = kept_id("resp_" + "x" * 5000)
    assert await answered.lookup.look_up(in_background(kept or "")) == UpstreamUsage(None)
    assert answered.heads == []


def in_background(response_id: str = "resp_1") -> Record:
    return Record("req_1", 0, "alice", "key", "up", "/responses", background=True, response_id=response_id)


async def test_an_entry_has_the_native_counts_and_what_was_charged(answered: Answers) -> None:
    answered.give({"data": GENERATION})
    entry = await answered.lookup.look_up(of_generation("gen-1?&x=/../"))
    assert entry is not None
    usage = entry.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 22, 33)
    assert (usage.cached_input_tokens, usage.reasoning_tokens) == (4, 5)
    assert (usage.reported_cost_nanousd, entry.model) == (1_234_567, "openai/gpt-5.5")
    (head,) = answered.heads
    assert head.startswith(b"GET /api/v1/generation?id=gen-1%3F%26x%3D%2F..%2F HTTP/1.1\r\n")
    assert b"authorization: Bearer %s\r\n" % KEY.encode() in head


@pytest.mark.parametrize(
    ("changes", "counts", "cost"),
    [
        ({"native_tokens_prompt": None, "native_tokens_completion": None}, (9, 19), 1_234_567),
        ({"native_tokens_completion": None, "tokens_completion": None, "total_cost": 0}, (11, 0), 0),
        ({"native_tokens_cached": None, "total_cost": None, "usage": 0.5}, (11, 22), 500_000_000),
        ({"total_cost": None}, (11, 22), None),
        ({"total_cost": 0, "is_byok": True, "upstream_inference_cost": 0.02}, (11, 22), 20_000_000),
        ({"total_cost": 0, "is_byok": True, "upstream_inference_cost": None}, (11, 22), None),
        ({"is_byok": False, "upstream_inference_cost": 0.02}, (11, 22), 1_234_567),
    ],
)
async def test_entries_with_gaps(
    answered: Answers, changes: dict[str, Any], counts: tuple[int, int], cost: int | None
) -> None:
    answered.give({"data": GENERATION | changes})
    entry = await answered.lookup.look_up(of_generation())
    assert entry is not None
    assert entry.usage is not None
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == counts
    assert entry.usage.reported_cost_nanousd == cost


async def test_an_error_object_with_404_means_not_yet(answered: Answers) -> None:
    answered.give({"error": {"message": "Generation gen-1 not found", "code": 404}}, "404 Not Found")
    assert await answered.lookup.look_up(of_generation()) is None


@pytest.mark.parametrize(
    ("body", "status"),
    [({"detail": "Not Found"}, "404 Not Found"), (b"<html>", "404 Not Found"), ({}, "405 No"), ({}, "501 No")],
)
async def test_any_other_404_means_that_there_are_no_books(answered: Answers, body: Any, status: str) -> None:  # noqa: ANN401
    answered.give(body, status)
    with pytest.raises(UsageNotKept):
        await answered.lookup.look_up(of_generation())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "slow down"}}, "429 Slow"),
        ({"error": {"message": "key"}}, "401 Who"),
        (b"<html>", "502 Bad"),
        (b"", "302 Found"),
        (b"not json", "200 OK"),
        ({"data": []}, "200 OK"),
        (b'"' + b"x" * MOST_BYTES + b'"', "200 OK"),
    ],
)
async def test_whatever_else_is_said_tells_nothing(answered: Answers, body: Any, status: str) -> None:  # noqa: ANN401
    answered.give(body, status)
    for ask in (answered.lookup.look_up(of_generation()), answered.account.spending()):
        with pytest.raises(UpstreamQueryFailed) as silent:
            await ask
        assert KEY not in str(silent.value)


@pytest.mark.parametrize("data", [{"model": "m"}, GENERATION | {"native_tokens_prompt": "many"}])
async def test_an_entry_without_counts_is_none(answered: Answers, data: dict[str, Any]) -> None:
    answered.give({"data": data})
    with pytest.raises(UpstreamQueryFailed):
        await answered.lookup.look_up(of_generation())
    assert await answered.account.spending() == UpstreamSpending()


async def test_a_response_in_the_background_tells_its_usage_when_it_is_over(answered: Answers) -> None:
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    response = {"id": "resp_1/../x?y", "object": "response", "status": "completed", "model": "m-served"}
    answered.give({**response, "usage": usage})
    entry = await answered.lookup.look_up(in_background("resp_1/../x?y"))
    assert entry == UpstreamUsage(Usage(input_tokens=7, output_tokens=5, total_tokens=12), "m-served")
    assert answered.heads[0].startswith(b"GET /api/v1/responses/resp_1%2F..%2Fx%3Fy HTTP/1.1\r\n")


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_one_that_is_not_over_is_still_running(answered: Answers, status: str) -> None:
    answered.give({"id": "resp_1", "object": "response", "status": status, "usage": None})
    with pytest.raises(StillRunning):
        await answered.lookup.look_up(in_background())


@pytest.mark.parametrize("status", ["cancelled", "failed", "incomplete"])
async def test_one_that_ended_without_a_usage_has_nothing_to_tell(answered: Answers, status: str) -> None:
    answered.give({"id": "resp_1", "status": status, "model": "m", "usage": None})
    assert await answered.lookup.look_up(in_background()) == UpstreamUsage(None, "m")


async def test_a_response_that_was_deleted_and_one_that_is_none(answered: Answers) -> None:
    answered.give({"error": {"message": "Response with id 'resp_1' not found."}}, "404 Not Found")
    assert await answered.lookup.look_up(in_background()) is None
    for odd in (
        {"id": "resp_2", "status": "completed", "usage": {"input_tokens": 1, "output_tokens": 1}},
        {"id": "resp_1", "status": "completed", "usage": {"total_tokens": 5}},
        {"error": {"message": "one moment"}},
        {},
        b"<html>",
    ):
        answered.give(odd)
        with pytest.raises(UpstreamQueryFailed):
            await answered.lookup.look_up(in_background())
    answered.give({"error": {"message": "slow down"}}, "429 Slow")
    with pytest.raises(UpstreamQueryFailed):
        await answered.lookup.look_up(in_background())


async def test_an_upstream_without_stored_responses_has_nothing_to_tell_and_may_have_books(answered: Answers) -> None:
    answered.give(b"<html>", "404 Not Found")
    assert await answered.lookup.look_up(in_background()) == UpstreamUsage(None)
    with pytest.raises(UsageNotKept):
        await answered.lookup.look_up(of_generation())


async def test_a_call_with_a_generation_is_looked_up_by_that(answered: Answers) -> None:
    answered.give({"data": GENERATION})
    assert await answered.lookup.look_up(replace(in_background(), generation_id="gen-1")) is not None
    assert answered.heads[0].startswith(b"GET /api/v1/generation?id=gen-1 ")


async def test_a_response_of_any_size_is_read_in_little_memory(answered: Answers) -> None:
    output = [{"type": "message", "content": "x" * 1_000_000}] * 20
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    answered.give({"id": "resp_1", "output": output, "status": "completed", "model": "m", "usage": usage})
    entry = await answered.lookup.look_up(in_background())
    usage_read = Usage(input_tokens=7, output_tokens=5, total_tokens=12)
    assert entry == UpstreamUsage(usage_read, "m", Extras(unread=True))


async def test_nobody_there() -> None:
    api = UpstreamApi(Target.of("http://127.0.0.1:1/v1"), KEY)
    with pytest.raises(UpstreamQueryFailed, match="GET /generation: "):
        await UpstreamUsageLookup(api).look_up(of_generation())
    await api.close()


async def test_an_api_that_is_never_asked_needs_no_client() -> None:
    api = UpstreamApi(Target.of("http://127.0.0.1:1/v1"), KEY)
    await api.close()
    assert api._client is None


class Books:
    """A mock with calls of several days; its clock is moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    async def fill(self, url: str) -> None:
        async with upstream_client(Target.of(f"{url}/v1"), KEY) as client:
            for days_ago, model in ((40, "openai/gpt-5.5"), (35, "openai/gpt-5.5"), (6, "openai/gpt-5.5"), (1, "a/b")):
                self.now = NOW - days_ago * DAY
                for words in range(3):
                    body = {"model": model, "input": "hello " * words}
                    assert (await client.post("/responses", json=body)).status_code == 200
            self.now = NOW
            await client.post("/responses", json={"model": "a/b", "input": "today"})


@pytest.fixture
async def kept() -> AsyncIterator[tuple[UpstreamApi, Books, dict[str, int]]]:
    books = Books()
    options = MockOptions(key=KEY, pace=Pace(0, 0), clock=lambda: books.now)
    async with running_mock(options) as url:
        await books.fill(url)
        api = UpstreamApi(Target.of(f"{url}/v1"), KEY)
        yield api, books, (await api.fetch_fields("/../_mock/books"))["totals"]
        await api.close()


def summed(sheet: Any) -> Sums:  # noqa: ANN401
    total = Sums()
    for sums in sheet.values():
        total = total.plus(sums)
    return total


async def test_openai_statements_have_every_bucket_of_every_page(
    kept: tuple[UpstreamApi, Books, dict[str, int]],
) -> None:
    api, _, totals = kept
    statement = await openai_statement(api, date(2026, 10, 1))
    assert summed(statement.sheet) == Sums(
        totals["calls"], totals["input_tokens"], totals["output_tokens"], totals["cost_nanousd"]
    )
    assert sorted(statement.sheet) == [
        ("2026-10-13", "openai/gpt-5.5"),
        ("2026-10-18", "openai/gpt-5.5"),
        ("2026-11-16", "openai/gpt-5.5"),
        ("2026-11-21", "a/b"),
        ("2026-11-22", "a/b"),
    ]
    assert statement.has_day("2026-11-22")
    assert not statement.has_day("2026-11-20")


async def test_openrouter_statements_reach_back_thirty_days(kept: tuple[UpstreamApi, Books, dict[str, int]]) -> None:
    api, _, _ = kept
    statement = await openrouter_statement(api, date(2026, 10, 1))
    by_openai = await openai_statement(api, date(2026, 11, 1))
    assert statement.sheet == by_openai.sheet
    assert len(statement.sheet) == 3
    narrowed = await openrouter_statement(api, date(2026, 11, 21), "0" * 64)
    assert narrowed.sheet == {}
    since = await openrouter_statement(api, date(2026, 11, 21))
    assert sorted(since.sheet) == [("2026-11-21", "a/b"), ("2026-11-22", "a/b")]


async def test_a_statement_comes_with_the_credits_of_the_account(
    kept: tuple[UpstreamApi, Books, dict[str, int]], answered: Answers
) -> None:
    api, _, totals = kept
    statement = await openrouter_statement(api, date(2026, 11, 21))
    assert statement.credits == Credits(100 * NANOUSD_PER_USD, totals["cost_nanousd"])
    answered.give({"data": []})  # nothing is told of them, or nothing that could be read
    assert (await openrouter_statement(answered.api, date(2026, 11, 21))).credits is None


async def test_the_account_tells_the_windows_under_way(kept: tuple[UpstreamApi, Books, dict[str, int]]) -> None:
    api, _, totals = kept
    statement = await openai_statement(api, date(2026, 10, 1))
    cost = {day: sums.cost_nanousd for (day, _), sums in statement.sheet.items()}
    week = cost["2026-11-22"] + cost["2026-11-21"] + cost["2026-11-16"]
    told = await OpenRouterAccount(api).spending()
    assert told.since is not None  # the mock's books do not go back for ever
    assert replace(told, since=None) == UpstreamSpending(cost["2026-11-22"], week, week, totals["cost_nanousd"])


async def test_statements_that_cannot_be_read_are_no_statements(answered: Answers) -> None:
    of_a_day = {"date": "2026-11-22", "model": "m"}
    odd: list[Any] = [
        {},
        [{**of_a_day, "prompt_tokens": "7"}],
        [{**of_a_day, "prompt_tokens": -7}],
        [{**of_a_day, "date": None}],
        [of_a_day, "nothing"],
    ]
    for data in odd:
        value = {"data": data}
        answered.give(value)
        with pytest.raises(UpstreamQueryFailed):
            await openrouter_statement(answered.api, date(2026, 1, 1))
    endless = {"data": [{"start_time": 0, "results": []}], "has_more": True, "next_page": "again"}
    answered.give(endless)
    with pytest.raises(UpstreamQueryFailed, match="too many pages"):
        await openai_statement(answered.api, date(2026, 1, 1))


async def test_what_own_provider_keys_paid_is_spent_too(answered: Answers) -> None:
    answered.give({"data": {"usage": 1, "usage_daily": 0.25, "byok_usage": 2, "byok_usage_daily": 0.5}})
    assert await answered.account.spending() == UpstreamSpending(day=750_000_000, total=3_000_000_000)
    answered.give({"data": [{"date": "2026-11-22", "model": "a/b", "usage": 0.5, "byok_usage_inference": 0.25}]})
    statement = await openrouter_statement(answered.api, date(2026, 1, 1))
    assert statement.sheet == {("2026-11-22", "a/b"): Sums(cost_nanousd=750_000_000)}


async def test_other_names_of_a_model_are_told(answered: Answers) -> None:
    line = {"date": "2026-11-22", "model": "a/b", "model_permaslug": "a/b-2026-01-01", "usage": 0.5, "requests": 1.0}
    answered.give({"data": [line, line]})
    statement = await openrouter_statement(answered.api, date(2026, 1, 1), "hash")
    assert statement.names == {"a/b-2026-01-01": "a/b"}
    assert statement.sheet == {("2026-11-22", "a/b"): Sums(2, 0, 0, 1_000_000_000)}
    assert b"/activity?api_key_hash=hash " in answered.heads[0]


async def test_costs_may_be_texts_and_credits_are_no_costs(answered: Answers) -> None:
    results = [
        {"line_item": "m, input", "amount": {"value": "0.25"}},
        {"line_item": "m, output", "amount": {"value": 0.5}},
        {"line_item": "m, input", "amount": {"value": -3}},
        {"model": "m", "input_tokens": 7, "output_tokens": None},
    ]
    answered.give({"data": [{"start_time": int(NOW), "results": results}], "has_more": False})
    statement = await openai_statement(answered.api, date(2026, 1, 1), "proj_1")
    assert statement.sheet[("2026-11-22", "m")] == Sums(0, 7, 0, 750_000_000)
    assert all(b"project_ids=proj_1" in head for head in answered.heads)
