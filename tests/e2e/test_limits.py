"""Limits on the running program: budgets under a crowd, changes while it runs, restarts, what a client is told."""

import asyncio
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import Answer, OpenCall, opened, raw_request
from tests.e2e.program import Gateway, Mock, eventually

MODEL = "openai/gpt-4o-mini"
PER_CALL = 20
"""Output tokens of a call below, exactly: it asks for so many and is cut there."""


def ask(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {"model": MODEL, "input": "Tell me a story.", "max_output_tokens": PER_CALL, **more}


@pytest.fixture(scope="module")
def team(mock_process: Mock, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway of this file's own: its clients come and go."""
    folder = tmp_path_factory.mktemp("team")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=f"{mock_process.url}/api/v1") as running:
        yield running


def agree(gateway: Gateway, client: str, **change: Any) -> None:  # noqa: ANN401 - the API's own fields
    changed = admin(gateway, "PATCH", f"/clients/{client}", change)
    assert changed.status == 200, changed.body


def admin(gateway: Gateway, method: str, path: str, body: dict[str, Any]) -> Answer:
    """gateway.admin() for methods with a body other than POST."""
    connection = HTTPConnection(urlsplit(gateway.url).netloc, timeout=20)
    headers = {"authorization": f"Bearer {gateway.admin_key}", "content-type": "application/json"}
    connection.request(method, f"/admin/api{path}", json.dumps(body), headers)
    response = connection.getresponse()
    answer = Answer(response.status, [], response.read())
    connection.close()
    return answer


def opened_as(
    gateway: Gateway, key: str, body: dict[str, Any], headers: dict[str, str]
) -> AbstractContextManager[OpenCall]:
    return opened(f"{gateway.url}/api/v1/responses", key, body, headers)


def post(gateway: Gateway, key: str, body: dict[str, Any], **headers: str) -> Answer:
    with opened_as(gateway, key, body, headers) as call:
        return call.rest()


def own(gateway: Gateway, key: str) -> Any:  # noqa: ANN401 - JSON
    """What the client is told of its limits."""
    return gateway.get("/api/v1/key", key).json["data"]["limits"]["client"]


def calls_at_once(gateway: Gateway, key: str, count: int, body: dict[str, Any], **headers: str) -> list[Answer]:
    """So many calls, each on a connection of its own, all sent before any is answered."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    request = raw_request(key, body, headers={"Connection": "close", **headers})

    async def one(ready: asyncio.Barrier) -> Answer:
        reader, writer = await asyncio.open_connection(host, int(port))
        await ready.wait()
        writer.write(request)
        whole = await reader.read()
        writer.close()
        top, _, rest = whole.partition(b"\r\n\r\n")
        lines = top.decode().split("\r\n")
        pairs = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[1:])]
        return Answer(int(lines[0].split(" ")[1]), pairs, rest)

    async def all_of_them() -> list[Answer]:
        ready = asyncio.Barrier(count)
        return await asyncio.gather(*(one(ready) for _ in range(count)))

    return asyncio.run(all_of_them())


class Checker:
    """Looks at a client's budget again and again while others call: spent + reserved never exceeds it.

    The operator looks: a client may ask for its own figures 60 times a minute only.
    """

    def __init__(self, gateway: Gateway, client: str) -> None:
        self.most = 0
        self.looks = 0
        self._gateway, self._client = gateway, client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            answer = self._gateway.admin("GET", f"/clients/{self._client}")
            if answer.status == 503:  # the ledger or the limits' store did not answer in time: no look
                continue
            (budget,) = answer.json["standing"]["client"]["budgets"]
            self.most = max(self.most, budget["spent"] + budget["reserved"])
            self.looks += 1


def test_five_hundred_calls_at_once_on_a_budget_for_five(team: Gateway) -> None:
    key = team.new_key("crowd")
    worst = PER_CALL + -(-len(json.dumps(ask())) // 3)
    agree(team, "crowd", budget_tokens={"day": 5 * worst})
    with Checker(team, "crowd") as checker:
        answers = calls_at_once(team, key, 500, ask(), **{"x-mock-fault": "slow-first-byte=4s"})
    assert Counter(answer.status for answer in answers) == {200: 5, 429: 495}
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.error_type for answer in refused} == {"insufficient_quota"}
    assert {answer.value("x-should-retry") for answer in refused} == {"false"}
    assert {answer.value("retry-after") for answer in refused} == {None}
    assert checker.looks > 0
    assert checker.most <= 5 * worst
    now = own(team, key)
    (budget,) = now["budgets"]
    used = sum(r["total_tokens"] or 0 for r in team.records() if r["client"] == "crowd")
    assert (now["calls"], budget["reserved"], budget["spent"]) == (0, 0, used)


def test_calls_one_after_the_other_until_the_budget_is_spent(team: Gateway) -> None:
    key = team.new_key("steady")
    used = post(team, key, ask()).json["usage"]["total_tokens"]
    agree(team, "steady", budget_tokens={"month": 4 * used})
    statuses = [post(team, key, ask()).status for _ in range(6)]
    assert statuses == [200, 200, 200, 429, 429, 429]
    said = post(team, key, ask()).json["error"]
    assert (said["type"], said["code"]) == ("insufficient_quota", 429)
    assert f"budget of {4 * used} tokens a month is spent" in said["message"]
    assert "resets at" in said["message"]


def test_changes_by_command_count_at_once_and_are_kept(team: Gateway) -> None:
    key = team.new_key("changing")
    assert post(team, key, ask()).status == 200
    set_ = ("clients", "set", "changing")
    agree(team, "changing", models=["anthropic/*"])
    assert post(team, key, ask()).error_type == "model_not_allowed"
    team.command(*set_, "--models", "none", "--rpm", "1")
    first, second = post(team, key, ask()), post(team, key, ask())
    assert (first.status, first.value("x-ratelimit-remaining-requests")) == (200, "0")
    assert (first.value("x-ratelimit-limit-requests"), first.value("x-ratelimit-reset-requests")) == ("1", "1m0s")
    assert first.value("ratelimit") == '"requests";r=0;t=60'
    assert (second.status, second.error_type) == (429, "rate_limited")
    assert 1 <= int(second.value("retry-after") or 0) <= 60
    team.command(*set_, "--rpm", "none", "--disable")
    refused = post(team, key, ask())
    assert (refused.status, refused.error_type) == (401, "authentication")
    shown = team.admin("GET", "/clients/changing").json
    assert (shown["disabled"], shown["rpm"], shown["models"]) == (True, None, None)
    agree(team, "changing", enabled=True)
    assert post(team, key, ask()).status == 200
    assert admin(team, "PATCH", "/clients/nobody", {"rpm": 1}).status == 404
    assert "is not a budget" in team.command(*set_, "--budget-usd", "5", exit_code=2).stderr


def test_a_group_holds_its_members_together(team: Gateway) -> None:
    keys = [team.new_key(name) for name in ("ann", "ben")]
    team.command("groups", "set", "pair", "--rpm", "3")
    team.command("clients", "set", "ann", "--group", "pair")
    agree(team, "ben", group="pair")
    statuses = [post(team, keys[turn % 2], ask()).status for turn in range(4)]
    assert statuses == [200, 200, 200, 429]
    agree(team, "ben", group=None)
    assert post(team, keys[1], ask()).status == 200
    (group,) = (g for g in team.admin("GET", "/groups").json["groups"] if g["name"] == "pair")
    assert (group["members"], group["rpm"]) == (["ann"], 3)
    assert "there is no group" in team.command("clients", "set", "ben", "--group", "x", exit_code=1).stderr


def test_a_client_sees_its_own_limits(team: Gateway) -> None:
    key = team.new_key("curious")
    agree(team, "curious", budget_usd={"day": "1.50", "total": "100"}, rpm=60)
    cost = post(team, key, ask()).json["usage"]["cost"]
    said = team.get("/v1/key", key).json["data"]
    assert (said["label"], said["limit"], said["limit_reset"], said["is_free_tier"]) == ("curious", 1.5, "daily", False)
    assert said["usage"] == said["usage_daily"] == said["usage_weekly"] == said["usage_monthly"] == pytest.approx(cost)
    assert said["limit_remaining"] == pytest.approx(1.5 - cost)
    usage = team.get("/usage", key).json
    day, total = usage["limits"]["client"]["budgets"]
    assert (day["unit"], day["period"], day["amount"], day["reserved"]) == ("usd", "day", "1.5", "0")
    assert float(day["spent"]) == pytest.approx(cost)
    assert datetime.fromisoformat(day["resets_at"]).replace(tzinfo=UTC) > datetime.now(UTC)
    assert total["resets_at"] is None
    assert [row["model"] for row in usage["by_model"]] == [MODEL]


def test_budgets_outlive_the_process_and_its_open_calls_count_by_their_worst_case(team: Gateway) -> None:
    key = team.new_key("survivor")
    agree(team, "survivor", budget_tokens={"month": 100_000})
    used = post(team, key, ask()).json["usage"]["total_tokens"]
    hanging = ask(stream=True, max_output_tokens=700)
    with opened_as(team, key, hanging, {"x-mock-fault": "stall@3"}) as call:
        call.read()
        eventually(lambda: [r for r in team.records() if r["client"] == "survivor" and r["outcome"] == "in_progress"])
        (budget,) = own(team, key)["budgets"]
        assert budget["spent"] == used
        assert budget["reserved"] > 700
        team.restart(signal.SIGKILL)
    (after,) = own(team, key)["budgets"]
    left_open = next(r for r in team.records() if r["client"] == "survivor" and r["outcome"] == "interrupted")
    assert left_open["usage_source"] in {"estimated", "settled"}  # upstream's books may have told already
    assert after["reserved"] == 0
    if left_open["usage_source"] == "estimated":
        assert after["spent"] == used + budget["reserved"]


def test_books_correct_what_was_counted_by_an_estimate(team: Gateway) -> None:
    key = team.new_key("corrected")
    agree(team, "corrected", budget_tokens={"month": 100_000})
    with opened_as(team, key, ask(stream=True), {"x-mock-fault": "stall@8"}) as call:
        call.read()
    settled = eventually(
        lambda: [r for r in team.records() if r["client"] == "corrected" and r["usage_source"] == "settled"]
    )
    (budget,) = own(team, key)["budgets"]
    assert budget["spent"] == settled[0]["input_tokens"] + settled[0]["output_tokens"]


def test_a_stream_is_stopped_hard_only_where_that_is_agreed(team: Gateway) -> None:
    key = team.new_key("bounded")
    long_story = {"model": MODEL, "input": "Tell.", "stream": True, "metadata": {"mock_tokens": "300"}}
    agree(team, "bounded", output_ceiling=20)
    assert post(team, key, long_story).whole
    agree(team, "bounded", hard_stop=True)
    answer = post(team, key, long_story)
    assert answer.whole
    *_, last = (json.loads(line[5:]) for line in answer.body.splitlines() if line.startswith(b"data:"))
    assert (last["type"], last["response"]["incomplete_details"]) == (
        "response.incomplete",
        {"reason": "max_output_tokens"},
    )
    record = next(r for r in team.records() if r["client"] == "bounded" and r["error_type"] == "output_ceiling")
    assert record["outcome"] == "incomplete"


def test_upstream_is_told_who_calls_only_where_that_is_agreed(team: Gateway) -> None:
    key = team.new_key("named")
    assert post(team, key, ask()).json["safety_identifier"] is None
    agree(team, "named", safety_identifier=True)
    told = {post(team, key, ask(safety_identifier=mine)).json["safety_identifier"] for mine in ("x", "y")}
    assert len(told) == 1
    assert len(told.pop()) == 32
    agree(team, "named", safety_identifier=False)
    assert post(team, key, ask(safety_identifier="x")).json["safety_identifier"] == "x"


def test_new_clients_begin_with_the_defaults(
    mock_process: Mock, canary_key: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("defaults")
    config = folder / "weighbridge.toml"
    config.write_text('[client_defaults]\nrpm = 1\nbudget_usd = ["5/day"]\nmodels = ["openai/*"]\n')
    url = f"{mock_process.url}/api/v1"
    with Gateway(folder, canary_key, "--config", str(config), WEIGHBRIDGE_UPSTREAM_URL=url) as gateway:
        key = gateway.new_key("fresh")
        assert [post(gateway, each, ask()).status for each in (key, gateway.key)] == [200, 200]  # before anybody looks
        shown = gateway.admin("GET", "/clients/fresh").json
        assert (shown["rpm"], shown["models"]) == (1, ["openai/*"])
        assert shown["budgets"] == [{"unit": "usd", "period": "day", "amount": "5"}]
        assert post(gateway, key, ask()).status == 429


@pytest.mark.long
@pytest.mark.timeout(150)
def test_a_minute_has_as_many_requests_as_were_agreed(team: Gateway) -> None:
    """Four clients of a group call without a pause for two minutes' worth of it, less the seconds to start."""
    keys = [team.new_key(f"eager{number}") for number in range(4)]
    assert admin(team, "PATCH", "/groups/eager", {"rpm": 600}).status == 200
    for number in range(4):
        agree(team, f"eager{number}", group="eager")
    end = time.monotonic() + 121
    passed: list[float] = []

    def call(key: str) -> None:
        while (now := time.monotonic()) < end:
            if post(team, key, ask()).status == 200:
                passed.append(now)

    threads = [threading.Thread(target=call, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = min(passed)
    assert abs(sum(at < first + 60 for at in passed) - 600) <= 6
    assert abs(sum(at < first + 120 for at in passed) - 1200) <= 12
