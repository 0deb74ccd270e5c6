"""Nothing is lost: calls that broke off are settled from upstream's books, and then both books say the same."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.e2e.client import dial, raw_request
from tests.e2e.program import Gateway, Mock, eventually, run

MODELS = ("openai/gpt-5.5", "anthropic/claude-sonnet-5", "google/gemini-3-flash")
WHOLE = ("", "failed-with-usage", "incomplete", "double-terminal", "crlf", "comments", "split=7")
WITHOUT_USAGE = (
    "failed",
    "error-then-failed",
    "flat-error",
    "chat-error",
    "response-error",
    "overloaded-200",
    "no-usage",
    "usage-null",
    "usage-list",
    "truncate@7",
    "truncate-clean@9",
    "cut-inside-terminal",
    "close@8",
    "reset@6",
    "gzip,truncate@6",
)
REFUSED = ("status=429", "status=503", "500-html", "redirect", "garbage", "status=401")
BROKEN = 4  # calls that somebody leaves or that are killed


class Pair:
    """A gateway and its upstream, both of this test alone, and what is asked of both."""

    def __init__(self, gateway: Gateway, mock: Mock, management_key: str) -> None:
        self.gateway = gateway
        self.mock = mock
        self.management_key = management_key

    def call(self, model: str, fault: str = "", *, stream: bool = True, tokens: int = 40) -> None:
        body = {"model": model, "input": "Say something. " * 40, "stream": stream}
        body["metadata"] = {"mock_tokens": str(tokens)}
        with self.gateway.calling(body, {"x-mock-fault": fault} if fault else None) as open_call:
            open_call.rest()

    def reconcile(self, *arguments: str, exit_code: int, management: bool = True) -> Any:  # noqa: ANN401 - JSON
        done = self.run("reconcile", "--json", *arguments, management=management)
        assert done.returncode == exit_code, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout else done.stderr

    def run(self, *arguments: str, management: bool = True) -> subprocess.CompletedProcess[str]:
        key = {"OPENROUTER_MANAGEMENT_KEY": self.management_key, "OPENAI_ADMIN_KEY": self.management_key}
        return run(*arguments, env={**self.gateway.env, **(key if management else {})})

    def unsettled(self) -> float:
        return self.gateway.metric("weighbridge_unsettled_records")

    def books(self) -> dict[str, int]:
        totals: dict[str, int] = self.mock.get("/_mock/books")["totals"]
        return totals


@pytest.fixture
def pair(
    canary_key: str, tmp_path_factory: pytest.TempPathFactory, start_gateway: Callable[..., Gateway]
) -> Iterator[Pair]:
    with Mock(tmp_path_factory.mktemp("mock"), canary_key, "--books-delay", "0.5") as mock:
        yield Pair(start_gateway(WEIGHBRIDGE_UPSTREAM_URL=f"{mock.url}/api/v1"), mock, canary_key)


def test_both_books_say_the_same_whatever_happened(pair: Pair) -> None:
    for number, fault in enumerate((*WHOLE, *WITHOUT_USAGE, *REFUSED)):
        pair.call(MODELS[number % len(MODELS)], fault)
    for model in MODELS:
        pair.call(model, stream=False)
        pair.call(model, "truncate@1", stream=False)
    leave_and_be_killed(pair)
    eventually(lambda: not sources(pair.gateway) & {"none", "estimated"}, "an end of settling")
    assert pair.unsettled() == 0
    settled = [record for record in pair.gateway.records() if record["usage_source"] == "settled"]
    assert len(settled) >= len(WITHOUT_USAGE) + len(MODELS) + 2 * BROKEN
    assert {record["cost_source"] for record in settled} == {"reported"}
    result = pair.reconcile("--since", "1d", "--tolerance", "0", exit_code=0)
    books = pair.books()
    assert result["total"]["difference"] == {"input_tokens": 0, "output_tokens": 0, "cost_usd": "0"}
    assert result["total"]["ours"]["input_tokens"] == books["input_tokens"] > 0
    assert result["total"]["ours"]["output_tokens"] == books["output_tokens"] > 0
    assert set(result["models"][0]["ours"]) == {"requests", "input_tokens", "output_tokens", "cost_usd"}
    assert [model["model"] for model in result["models"]] == sorted(MODELS)
    assert all(not any_difference(cell["difference"]) for cell in (*result["models"], *result["days"]))
    assert Decimal(result["credits"]["used_usd"]) == Decimal(result["total"]["upstream"]["cost_usd"])
    assert f"The account has used {result['credits']['used_usd']} of 100 USD: " in pair.run("reconcile").stdout
    by_openai = pair.reconcile("--since", "1d", "--books", "openai", "--tolerance", "0", exit_code=0)
    assert by_openai["credits"] is None
    assert by_openai["total"] == result["total"]


def leave_and_be_killed(pair: Pair) -> None:
    """Streams whose client leaves, and streams in which the gateway is killed. Upstream stalls in mid-stream."""
    gateway = pair.gateway
    before = {record["request_id"] for record in gateway.records()}
    stalled = {"x-mock-fault": "stall@8"}

    def ask() -> bytes:
        return raw_request(gateway.key, {"model": MODELS[0], "input": "Go on.", "stream": True}, headers=stalled)

    for _ in range(BROKEN):
        with dial(gateway.url) as connection:
            connection.sendall(ask())
            while b"output_text.delta" not in connection.recv(65_536):
                pass
    connections = [dial(gateway.url) for _ in range(BROKEN)]
    for connection in connections:
        connection.sendall(ask())

    def noted() -> bool:
        rows = [r for r in gateway.records() if r["outcome"] == "in_progress" and r["request_id"] not in before]
        return sum(r["generation_id"] is not None for r in rows) == BROKEN

    eventually(noted, "rows of the open calls, with their generation ids")
    gateway.restart(signal.SIGKILL)
    for connection in connections:
        connection.close()
    outcomes = [r["outcome"] for r in gateway.records() if r["request_id"] not in before]
    assert outcomes.count("client_closed") == outcomes.count("interrupted") == BROKEN


def sources(gateway: Gateway) -> set[str]:
    """How the usage of calls is known that upstream began to answer."""
    return {r["usage_source"] for r in gateway.records() if r["generation_id"] is not None and r["http_status"] == 200}


def any_difference(difference: dict[str, Any]) -> bool:
    return bool(difference["input_tokens"] or difference["output_tokens"] or difference["cost_usd"] != "0")


def leave_before_the_answer(pair: Pair, model: str) -> None:
    """Upstream bills the prompt, and never gave the id by which one could ask for how much."""
    aborted = pair.mock.get("/_mock/stats")["aborted"]
    body = {"model": model, "input": "Say something. " * 400, "stream": True}
    with dial(pair.gateway.url) as connection:
        connection.sendall(raw_request(pair.gateway.key, body, headers={"x-mock-fault": "slow-first-byte=90s"}))
        eventually(lambda: [c for c in pair.mock.get("/_mock/books")["calls"] if c["status"] == "in_progress"])
    eventually(lambda: pair.mock.get("/_mock/stats")["aborted"] == aborted + 1)
    pair.gateway.idle()


def test_a_difference_is_named_with_the_records_that_could_explain_it(pair: Pair) -> None:
    pair.call(MODELS[0])
    leave_before_the_answer(pair, MODELS[1])
    result = pair.reconcile("--since", "1d", exit_code=1)
    assert not result["within"]
    (outside,) = (model for model in result["models"] if not model["within"])
    assert outside["model"] == MODELS[1]
    assert outside["ours"]["input_tokens"] > outside["upstream"]["input_tokens"] > 0, "an estimate is high"
    (record,) = result["records"]
    assert (record["model_requested"], record["usage_source"], record["cost_source"]) == (
        MODELS[1],
        "estimated",
        None if record["cost_usd"] is None else "estimated",
    )
    assert pair.reconcile("--since", "1d", "--tolerance", "100%", exit_code=0)["within"]
    shown = pair.run("reconcile", "--since", "1d")
    assert shown.returncode == 1
    more = -outside["difference"]["input_tokens"]
    assert f"ours +{more:,}" in shown.stdout
    assert record["request_id"] in shown.stdout


def test_without_a_management_key_the_sums_are_compared(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> None:
    pair.call(MODELS[0])
    result = pair.reconcile("--tolerance", "0", exit_code=0, management=False)
    day = result["windows"][0]
    assert (day["window"], day["within"], day["decides"]) == ("day", True, True)
    assert day["ours_usd"] == day["upstream_usd"] != "0"
    leave_before_the_answer(pair, MODELS[1])
    assert not pair.reconcile(exit_code=1, management=False)["windows"][0]["within"]
    file = tmp_path_factory.mktemp("keys") / "management"
    file.write_text(pair.management_key + "\n")
    named = pair.reconcile("--management-key-file", str(file), exit_code=1, management=False)
    assert [m["model"] for m in named["models"] if not m["within"]] == [MODELS[1]]


def test_what_upstream_says_of_the_key_is_for_operators(gateway: Gateway) -> None:
    assert gateway.get("/admin/api/upstream?spending=true").status == 401
    assert gateway.get("/admin/api/upstream?spending=true", gateway.key).status == 401
    shown = gateway.admin("GET", "/upstream").json
    assert (shown["name"], set(shown)) == ("127.0.0.1", {"name", "base_url"})
    told = gateway.admin("GET", "/upstream?spending=true").json
    assert (told["spending"], told["problem"]) == (None, "GET /key: upstream answered HTTP 404")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({}, "upstream did not tell what its key has spent: GET /key: upstream answered HTTP 404"),
        ({"OPENROUTER_MANAGEMENT_KEY": "sk-management"}, "GET /activity: upstream answered HTTP 404"),
    ],
)
def test_an_upstream_without_books(gateway: Gateway, key: dict[str, str], words: str) -> None:
    done = run("reconcile", env={**gateway.env, **key})
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tolerance", "much"),
        ("--tolerance", "0.5"),
        ("--tolerance", "101%"),
        ("--since", "soon"),
        ("--since", "2999-01-01"),
        ("--management-key-file", "nowhere"),
        ("--books", "ledger"),
    ],
)
def test_wrong_use(gateway: Gateway, arguments: tuple[str, ...]) -> None:
    done = run("reconcile", *arguments, env=gateway.env)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr
    assert "Traceback" not in done.stderr
