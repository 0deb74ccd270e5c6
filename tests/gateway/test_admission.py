"""Admission: what terms do to calls, and that every way out of a call gives back what it took."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from app.domain.errors import (
    ApiError,
    AuthenticationFailed,
    Draining,
    ModelNotAllowed,
    QuotaSpent,
    RateLimited,
    StorageUnavailable,
    UpstreamProtocolError,
)
from app.domain.money.budgets import Budget, Unit
from app.domain.money.limits import Limits
from app.domain.money.pricing import Price
from app.domain.money.windows import Period
from app.domain.records import Outcome, UsageSource
from app.domain.request.judged_names import TOP_NAMES
from app.gateway.admission.admission import AdmissionRules
from app.gateway.admission.call_facts import CallFacts, read_in_steps
from app.gateway.exchange.ending import Ending
from app.gateway.limiter import HolderReading
from app.gateway.ports import StoredClient
from app.store.schema.rows import COLUMNS, open_row_of
from tests.gateway.house import COMPLETED, CREATED, DELTA, RULES, House, Visit, event, response, usage

PRICE = Price(input=1_000_000_000, output=1_000_000_000)  # 1000 nano-dollars a token
STRICT = AdmissionRules(RULES.assumed, refuse_unknown_price=True, last_call=False)


def usd(amount: int) -> Limits:
    return Limits(budgets=(Budget(Unit.USD, Period.DAY, amount),))


def tokens(amount: int) -> Limits:
    return Limits(budgets=(Budget(Unit.TOKENS, Period.DAY, amount),))


def call(out: int | None = 30, **more: Any) -> bytes:  # noqa: ANN401 - any JSON
    """With `out` its worst case is some tokens of input and `out`."""
    fields = {"model": "m-served", "stream": True, **({} if out is None else {"max_output_tokens": out}), **more}
    return json.dumps(fields, separators=(",", ":")).encode()


def worst(body: bytes, out: int = 30) -> int:
    return -(-len(body) // 3) + out


async def standing(house: House) -> HolderReading:
    (holder,) = house.directory.clients.holders("alice")
    return await house.limiter.reading(holder, house.time.us)


def error_of(visit: Visit) -> ApiError:
    assert visit.client.error is not None
    return visit.client.error


def answer_whole(visit: Visit, into: int = 10, out: int = 20) -> None:
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA, event("response.completed", response=response(usage=usage(into, out))))
    visit.upstream.end()


@pytest.fixture
def house() -> House:
    house = House(at_once=True)
    house.prices["m-served"] = PRICE
    return house


# -- who has no terms ------------------------------------------------------------------------------------------


async def test_who_has_no_terms_is_not_judged(house: House) -> None:
    await house.agree()
    visit = house.visit(call())
    assert type(visit.exchange).__name__ == "Exchange"
    answer_whole(visit)
    assert not any(name.startswith(b"ratelimit") for name, _ in visit.client.headers)


def test_a_disabled_client_is_refused(house: House) -> None:
    key = house.make_key("alice")
    house.put_terms()
    house.gateway.admit(f"Bearer {key.text}".encode())
    stored = house.directory.clients.client("alice")
    assert stored is not None
    house.directory.clients.put_client(StoredClient(stored.name, stored.created_at, house.time.us, stored.terms))
    with pytest.raises(AuthenticationFailed, match="disabled"):
        house.gateway.admit(f"Bearer {key.text}".encode())


# -- budgets ---------------------------------------------------------------------------------------------------


async def test_five_hundred_calls_at_once_on_a_budget_for_five(house: House) -> None:
    body = call()
    await house.agree(limits=tokens(5 * worst(body)))
    visits = [house.visit(body) for _ in range(500)]
    assert len(house.upstream.calls) == 5
    refused = [error_of(visit) for visit in visits if visit.settled]
    assert len(refused) == 495
    assert all(isinstance(error, QuotaSpent) for error in refused)
    assert refused[0].extra_headers == ()
    for one in house.upstream.calls:
        one.stream_head()
        one.data(event("response.completed", response=response(usage=usage(worst(body) - 30, 30))))
    (budget,) = (await standing(house)).budgets
    assert (budget.spent, budget.reserved, budget.left) == (5 * worst(body), 0, 0)
    assert "is spent" in error_of(house.visit(body)).message


async def test_a_call_is_counted_by_what_it_came_to(house: House) -> None:
    await house.agree(limits=usd(1_000_000))
    visit = house.visit(call())
    (budget,) = (await standing(house)).budgets
    assert (budget.spent, budget.reserved) == (0, 1000 * worst(call()))
    answer_whole(visit, 10, 20)
    (budget,) = (await standing(house)).budgets
    assert (budget.spent, budget.reserved) == (30_000, 0)
    assert (visit.record.usage_source, visit.record.cost_nanousd) == (UsageSource.REPORTED, 30_000)


async def test_the_last_call_gets_what_is_left_and_none_beside_it(house: House) -> None:
    await house.agree(limits=tokens(100))
    first, second = house.visit(call(out=500)), house.visit(call(out=1))
    assert len(house.upstream.calls) == 1
    assert "calls under way hold 100 tokens" in error_of(second).message
    answer_whole(first, 10, 20)
    third = house.visit(call(out=500))
    answer_whole(third, 20, 60)
    fourth = house.visit(call(out=1))
    assert "is spent" in error_of(fourth).message


async def test_a_strict_budget_says_what_would_help() -> None:
    house = House(at_once=True, rules=STRICT)
    await house.agree(limits=tokens(100))
    error = error_of(house.visit(call(out=500)))
    assert isinstance(error, QuotaSpent)
    assert "100 tokens left" in error.message
    assert "`max_output_tokens`" in error.message
    await house.agree(limits=tokens(100), output_ceiling=50)
    house.visit(call(out=None))
    assert len(house.upstream.calls) == 1


async def test_an_unknown_price_is_refused_or_not_counted(house: House) -> None:
    await house.agree(limits=usd(10**9))
    error = error_of(house.visit(call(model="nobody/knows")))
    assert isinstance(error, ModelNotAllowed)
    await house.agree(limits=tokens(10**9))
    assert house.visit(call(model="nobody/knows")).client.error is None
    await house.agree(limits=Limits(budgets=(*usd(10**9).budgets, *tokens(10**9).budgets)))  # these hold it
    assert house.visit(call(model="nobody/knows")).client.error is None
    lenient = House(at_once=True, rules=AdmissionRules(RULES.assumed, refuse_unknown_price=False, last_call=True))
    await lenient.agree(limits=usd(10**9))
    visit = lenient.visit(call(model="nobody/knows"))
    assert [b.reserved for b in (await standing(lenient)).budgets] == [0]
    visit.upstream.stream_head()
    visit.upstream.data(event("response.completed", response=response(usage=usage(1, 1, cost=0.5))))
    assert [b.spent for b in (await standing(lenient)).budgets] == [5 * 10**8]


async def test_budgets_fail_shut_and_rates_do_not_while_the_ledger_keeps_nothing(house: House) -> None:
    house.ledger.keeping = False
    await house.agree(limits=usd(10**9))
    assert isinstance(error_of(house.visit(call())), StorageUnavailable)
    await house.agree(limits=Limits(rpm=5))
    assert house.visit(call()).client.error is None


async def test_an_open_call_holds_its_worst_case_in_the_ledger(house: House) -> None:
    await house.agree(limits=usd(10**9))
    visit = house.visit(call())
    row = dict(zip(COLUMNS, open_row_of(visit.exchange.record), strict=True))
    assert (row["usage_source"], row["cost_source"], row["outcome"]) == ("estimated", "estimated", "in_progress")
    assert row["input_tokens"] + row["output_tokens"] == row["total_tokens"] == worst(call())
    assert row["cost_nanousd"] == 1000 * worst(call())
    visit.upstream.broken(UpstreamProtocolError("gone"))
    assert (visit.record.usage_source, visit.record.total_tokens) == (UsageSource.ESTIMATED, worst(call()))
    assert visit.record.cost_nanousd == row["cost_nanousd"]
    assert visit.record.held
    assert [b.spent for b in (await standing(house)).budgets] == [row["cost_nanousd"]]


async def test_who_hangs_up_is_counted_by_an_estimate_no_higher_than_the_worst_case(house: House) -> None:
    await house.agree(limits=tokens(1000))
    visit = house.visit(call())
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA)
    house.time.advance(300)  # long enough to have thought more than was asked for
    visit.exchange.leave()
    record = visit.record
    assert (record.outcome, record.usage_source, record.output_tokens) == (
        Outcome.CLIENT_CLOSED,
        UsageSource.ESTIMATED,
        30,
    )
    assert [b.spent for b in (await standing(house)).budgets] == [record.total_tokens]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_in_the_background_counts_by_its_worst_case_when_nobody_saw_its_end(
    house: House, stream: bool
) -> None:
    """It goes on upstream: by what was seen of it a budget would hold nothing."""
    await house.agree(limits=tokens(100_000))
    body = call(30_000, stream=stream, background=True)
    visit = house.visit(body)
    if stream:
        visit.upstream.stream_head()
        visit.upstream.data(CREATED)
        visit.exchange.leave()
    else:
        visit.upstream.json_head()
        visit.upstream.data(json.dumps(response("queued", usage=None, background=True)).encode())
        visit.upstream.end()
    assert visit.record.usage_source is UsageSource.ESTIMATED
    (budget,) = (await standing(house)).budgets
    assert (budget.spent, budget.reserved) == (worst(body, 30_000), 0)


async def test_a_call_in_the_background_whose_end_was_seen_counts_by_that(house: House) -> None:
    await house.agree(limits=tokens(100_000))
    answer_whole(house.visit(call(30_000, background=True)))
    visit = house.visit(call(30_000, stream=False, background=True))
    visit.upstream.json_head(400)
    visit.upstream.data(b'{"error":{}}')
    visit.upstream.end()
    (budget,) = (await standing(house)).budgets
    assert (budget.spent, budget.reserved) == (30, 0)


async def test_an_answer_that_tells_no_usage_is_not_free(house: House) -> None:
    await house.agree(limits=tokens(1000))
    visit = house.visit(call())
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA, event("response.completed", response=response(usage=None)))
    assert visit.record.usage_source is UsageSource.ESTIMATED
    assert [b.spent for b in (await standing(house)).budgets] == [visit.record.total_tokens]


@pytest.mark.parametrize("coding", [b"br", b"identity"])
async def test_an_answer_of_which_nothing_can_be_read_is_not_free(house: House, coding: bytes) -> None:
    """Nor one that came in its last event, without deltas."""
    await house.agree(limits=tokens(1000))
    visit = house.visit(call())
    visit.upstream.stream_head((b"content-encoding", coding))
    visit.upstream.data(event("response.completed", response=response(usage=None, output=["x" * 600])))
    visit.upstream.end()
    assert (visit.record.outcome, visit.record.usage_source) == (Outcome.COMPLETED, UsageSource.ESTIMATED)
    assert [b.spent for b in (await standing(house)).budgets] == [visit.record.total_tokens]
    assert (visit.record.output_tokens or 0) > 0


@pytest.mark.parametrize(
    "told", [{"total_tokens": 900}, {"output_tokens": 20}, {"input_tokens": -1, "output_tokens": 20}]
)
async def test_an_answer_that_tells_half_a_usage_is_not_free(house: House, told: dict[str, Any]) -> None:
    await house.agree(limits=usd(1_000_000))
    visit = house.visit(call())
    visit.upstream.stream_head()
    visit.upstream.data(CREATED, DELTA, event("response.completed", response=response(usage=told)))
    assert visit.record.usage_source is UsageSource.ESTIMATED
    assert visit.record.output_tokens == told.get("output_tokens", visit.record.output_tokens)
    assert [b.spent for b in (await standing(house)).budgets] == [visit.record.cost_nanousd]
    assert visit.record.cost_nanousd


async def test_absurd_tokens_are_priced_at_what_sums_can_hold(house: House) -> None:
    await house.agree(limits=usd(1_000_000))
    visit = house.visit(call())
    answer_whole(visit, 2**53 - 1, 1)
    assert visit.record.cost_nanousd == 10**15


# -- rates, slots and their headers ----------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
async def test_an_answer_that_tells_no_usage_takes_its_part_of_a_rate(house: House, background: bool) -> None:
    await house.agree(limits=Limits(tpm=100_000))
    body = call(30_000, stream=False, background=background)
    visit = house.visit(body)
    visit.upstream.json_head()
    answer = json.dumps(response("queued" if background else "completed", usage=None)).encode()
    visit.upstream.data(answer)
    visit.upstream.end()
    assert (visit.record.usage_source, visit.record.total_tokens) == (UsageSource.NONE, None)
    (rate,) = (await standing(house)).rates
    if background:
        assert 100_000 - rate.remaining == worst(body, 30_000)
    else:
        assert len(answer) // 3 < 100_000 - rate.remaining < worst(body, 30_000)


async def test_rates_are_told_and_refused(house: House) -> None:
    await house.agree(limits=Limits(rpm=2, tpm=1000))
    first = house.visit(call())
    answer_whole(first)
    told = dict(first.client.headers)
    assert told[b"x-ratelimit-limit-requests"] == b"2"
    assert told[b"x-ratelimit-remaining-requests"] == b"1"
    assert told[b"x-ratelimit-reset-requests"] == b"1m0s"
    assert told[b"x-ratelimit-remaining-tokens"] == str(1000 - worst(call())).encode()
    assert told[b"ratelimit-policy"] == b'"requests";q=2;w=60, "tokens";q=1000;w=60'
    assert told[b"ratelimit"].startswith(b'"requests";r=1;t=60, ')
    house.visit(call())
    error = error_of(house.visit(call()))
    assert isinstance(error, RateLimited)
    headers = dict(error.extra_headers)
    assert headers["retry-after"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert "try again in 60s" in error.message


async def test_what_upstream_says_of_its_rates_is_not_mixed_with_ours(house: House) -> None:
    await house.agree(limits=Limits(rpm=2))
    visit = house.visit(call())
    visit.upstream.stream_head((b"x-ratelimit-limit-tokens", b"7"))
    names = [name for name, _ in visit.client.headers]
    assert [name for name in names if name.startswith(b"x-ratelimit-")] == [b"x-ratelimit-limit-tokens"]
    assert names.count(b"ratelimit") == 1


async def test_calls_at_once(house: House) -> None:
    await house.agree(limits=Limits(concurrency=1))
    first = house.visit(call())
    error = error_of(house.visit(call()))
    assert isinstance(error, RateLimited)
    assert dict(error.extra_headers) == {
        "retry-after": "1",
        "x-ratelimit-limit-concurrency": "1",
        "x-ratelimit-remaining-concurrency": "0",
    }
    answer_whole(first)
    assert house.visit(call()).client.error is None


class Open:
    """A call under way, and upstream's side of just this one."""

    def __init__(self, visit: Visit) -> None:
        self.exchange = visit.exchange
        self.upstream = visit.upstream


Step = Callable[[Open], None]


def data(chunk: bytes) -> Step:
    return lambda call: call.upstream.data(chunk)


begin: Step = lambda call: call.upstream.stream_head()  # noqa: E731 - steps are read side by side
end: Step = lambda call: call.upstream.end()  # noqa: E731
broken: Step = lambda call: call.upstream.broken(UpstreamProtocolError("x"))  # noqa: E731
leave: Step = lambda call: call.exchange.leave()  # noqa: E731

WAYS_OUT: list[tuple[Step, ...]] = [
    (begin, data(CREATED), data(DELTA), data(COMPLETED), end),
    (lambda call: call.upstream.json_head(), data(json.dumps(response()).encode()), end),
    (begin, data(event("response.failed", response=response("failed")))),
    (begin, data(DELTA), broken),
    (begin, data(DELTA), end),
    (broken,),
    (lambda call: call.upstream.head(401),),
    (lambda call: call.upstream.json_head(429), data(b'{"error":{}}'), end),
    (lambda call: call.upstream.head(307),),
    (leave, begin),  # kept until the head has come
    (begin, data(DELTA), leave),
    (begin, data(COMPLETED), leave),
    (begin, lambda call: call.exchange.end_by(Ending.DOOR_FAILED)),
    (lambda call: call.exchange.end_by(Ending.SERVER_STOPPED),),
    (begin, data(b"data: sk-or-v1-0123456789abcdef\n\n")),
]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_thousand_calls_that_end_in_every_way_leave_no_slot_taken(at_once: bool) -> None:
    house = House(at_once=at_once)
    house.prices["m-served"] = PRICE
    await house.agree(limits=Limits(rpm=10**6, concurrency=7, budgets=usd(10**12).budgets))
    open_: list[Open] = []
    for turn in range(1000):
        open_.append(Open(house.visit(call())))
        if len(open_) == 7:
            assert (await standing(house)).concurrency == 7
            assert isinstance(error_of(_committed(house.visit(call()))), RateLimited)
        while len(open_) > turn % 7:
            ending = open_.pop(0)
            for step in WAYS_OUT[turn % len(WAYS_OUT)]:
                step(ending)
            house.ledger.commit()
    for one in open_:
        one.exchange.end_by(Ending.DOOR_FAILED)
    now = await standing(house)
    assert (now.concurrency, [b.reserved for b in now.budgets], house.gateway.in_flight) == (0, [0], 0)
    assert now.budgets[0].spent == sum(r.cost_nanousd or 0 for r in house.ledger.settled.values())


def _committed(visit: Visit) -> Visit:
    visit.commit()
    return visit


# -- a limiter that answers later ------------------------------------------------------------------------------


async def test_who_leaves_while_the_limiter_thinks_takes_nothing(house: House) -> None:
    waiting: list[Callable[[], None]] = []
    limiter = house.limiter
    reserve = limiter.reserve
    limiter.reserve = lambda ask, answered: waiting.append(lambda: reserve(ask, answered))  # type: ignore[method-assign]
    await house.agree(limits=Limits(rpm=5, concurrency=5, budgets=tokens(1000).budgets))
    gone, stays = house.visit(call()), house.visit(call())
    gone.exchange.leave()
    assert gone.record.outcome is Outcome.CLIENT_CLOSED
    for answer in waiting:
        answer()
    assert len(house.upstream.calls) == 1
    answer_whole(stays, 10, 20)
    now = await standing(house)
    assert (now.concurrency, now.rates[0].remaining) == (0, 4)
    assert [(b.spent, b.reserved) for b in now.budgets] == [(30, 0)]


async def test_who_waits_for_the_limiter_is_told_that_the_server_stops(house: House) -> None:
    waiting: list[Callable[[], None]] = []
    reserve = house.limiter.reserve
    house.limiter.reserve = lambda ask, answered: waiting.append(lambda: reserve(ask, answered))  # type: ignore[method-assign]
    await house.agree(limits=Limits(rpm=5, concurrency=5))
    visit = house.visit(call())
    house.gateway.stop()
    waiting[0]()
    assert isinstance(error_of(visit), Draining)
    assert house.upstream.calls == []
    assert (await standing(house)).concurrency == 0


# -- models and the safety identifier --------------------------------------------------------------------------


async def test_models_are_judged_before_anything_is_taken(house: House) -> None:
    await house.agree(models=("m-*",), limits=Limits(rpm=1))
    error = error_of(house.visit(call(models=["other"])))
    assert (type(error), error.param) == (ModelNotAllowed, "models")
    assert house.visit(call()).client.error is None


async def test_a_long_list_of_tools_is_judged_too(house: House) -> None:
    await house.agree(models=("m-*",))
    filler = [{"type": "function", "name": f"f{i}", "parameters": {}} for i in range(3000)]
    bad = [*filler, {"type": "openrouter:fusion"}]
    for tools, allowed in ((filler, True), (bad, False)):
        body = call(tools=tools)
        facts = await read_in_steps(body)
        assert len(facts.fields["tools"]) <= 1, "of all the rest nothing is kept"
        visit = house.arrive()
        house.gateway.send(visit.exchange, "/responses", [], body, facts)
        assert (visit.client.error is None) is allowed


async def test_a_body_read_in_steps_has_what_limits_judge() -> None:
    judged = {name: "x" for name in TOP_NAMES if name not in {"stream", "tools", "plugins"}}
    facts = await read_in_steps(json.dumps({**judged, "unjudged": "y"}).encode())
    assert facts == CallFacts("x", stream=False)
    assert facts.fields == judged


async def test_upstream_is_told_a_hash_and_only_where_that_is_on(house: House) -> None:
    await house.agree(safety_identifier=True)
    house.visit(call(safety_identifier="mine"))
    sent = json.loads(house.upstream.calls[-1].request.body)
    assert sent["safety_identifier"] not in {"mine", "alice"}
    house.visit(call())
    assert json.loads(house.upstream.calls[-1].request.body) == {**json.loads(call()), **_identifier(sent)}
    await house.agree(limits=Limits(rpm=5))
    house.visit(call(safety_identifier="mine"))
    assert house.upstream.calls[-1].request.body == call(safety_identifier="mine")


def _identifier(sent: dict[str, Any]) -> dict[str, Any]:
    return {"safety_identifier": sent["safety_identifier"]}


async def test_a_body_that_cannot_be_changed_is_refused_not_crashed_on(house: House) -> None:
    await house.agree(safety_identifier=True)
    body = b'{"model":"m","input":' + b"[" * 900 + b"]" * 900 + b',"safety_identifier":"x"}'
    visit = house.visit(body)
    assert visit.client.error is None or visit.client.error.status == 400
    assert visit.settled is (visit.client.error is not None)


# -- the hard stop ---------------------------------------------------------------------------------------------


async def test_a_stream_is_broken_off_at_its_ceiling_and_says_so(house: House) -> None:
    await house.agree(limits=tokens(10_000), output_ceiling=10, hard_stop=True)
    visit = house.visit(call(out=None))
    visit.upstream.stream_head()
    for _ in range(100):
        visit.upstream.data(event("response.output_text.delta", delta="abc"))
    assert visit.client.ending == "abort"
    assert len(visit.client.chunks) == 11
    assert visit.upstream.cancelled.is_set()
    record = visit.record
    assert (record.outcome, record.error_type) == (Outcome.INTERRUPTED, "output_ceiling")
    assert record.usage_source is UsageSource.ESTIMATED
    now = await standing(house)
    assert (now.concurrency, [b.spent for b in now.budgets]) == (0, [record.total_tokens])


async def test_a_last_call_is_broken_off_where_the_budget_ends(house: House) -> None:
    body = call(out=1000)
    into = worst(body, 0)
    await house.agree(limits=tokens(into + 5), hard_stop=True)
    visit = house.visit(body)
    visit.upstream.stream_head()
    for _ in range(20):
        visit.upstream.data(event("response.output_text.delta", delta="abc"))
    assert len(visit.client.chunks) == 6
    assert visit.client.ending == "abort"


async def test_without_a_hard_stop_nothing_is_broken_off(house: House) -> None:
    await house.agree(limits=tokens(10_000), output_ceiling=10)
    visit = house.visit(call(out=None))
    visit.upstream.stream_head()
    for _ in range(100):
        visit.upstream.data(event("response.output_text.delta", delta="abc"))
    visit.upstream.data(COMPLETED)
    assert visit.client.ending is None
    assert visit.record.outcome is Outcome.COMPLETED
