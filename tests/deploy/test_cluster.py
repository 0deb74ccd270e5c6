"""compose.cluster.yaml, up for real: TLS, one ledger, limits that hold over both replicas, a crash, a stop."""

import json
import re
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from tests.deploy.containers import inspected
from tests.deploy.stack import Stack
from tests.e2e.client import ASK_STREAM, Answer
from tests.e2e.program import eventually

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

CALLS = 24
OWN_KEY = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 8787, timeout=10)
connection.request("GET", "/v1/key", headers={"Authorization": "Bearer " + sys.argv[1]})
print(connection.getresponse().status)
"""
REPLICAS = (1, 2)


def count(stack: Stack, index: int, name: str, label: str = "") -> float:
    """The sum of a metric's samples, those that have the label, in one replica."""
    samples = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", stack.metrics(index), re.MULTILINE)
    assert samples
    return sum(float(value) for labels, value in samples if label in labels)


class Crowd:
    """Many streams at once; all have begun when it is made."""

    def __init__(self, stack: Stack, key: str, tokens: int) -> None:
        self._stack = stack
        self._key = key
        self._port = stack.port("caddy", 443)
        self._asked = {**ASK_STREAM, "metadata": {"mock_tokens": str(tokens)}}
        self._begun = Barrier(CALLS + 1)
        self._pool = ThreadPoolExecutor(CALLS)
        self._calls: list[Future[Answer]] = [self._pool.submit(self._call) for _ in range(CALLS)]
        self._begun.wait(60)

    def _call(self) -> Answer:
        with self._stack.calling(self._key, self._asked, self._port) as call:
            call.read()
            self._begun.wait(60)
            return call.rest()

    def answers(self) -> list[Answer]:
        """All of them, when they are over."""
        answers = [call.result() for call in self._calls]
        self._pool.shutdown()
        return answers


def held_at_once(stack: Stack, key: str, calls: int, output_tokens: int) -> tuple[list[Answer], list[float]]:
    """So many calls, none of which ends by itself, so that all are judged while the others are under way.

    Also how many each replica let in.
    """
    asked = {**ASK_STREAM, "max_output_tokens": output_tokens, "metadata": {"mock_fault": "stall@3"}}
    port = stack.port("caddy", 443)
    judged, counted = Barrier(calls + 1), Event()

    def call() -> Answer:
        with stack.calling(key, asked, port) as opened:
            answer = opened.answer if opened.answer.status == 200 else opened.rest()
            judged.wait(60)
            counted.wait(60)
            return answer

    with ThreadPoolExecutor(calls) as pool:
        answers = [pool.submit(call) for _ in range(calls)]
        try:
            judged.wait(60)
            let_in = [count(stack, index, "weighbridge_streams_in_flight") for index in REPLICAS]
        finally:
            counted.set()
        return [answer.result() for answer in answers], let_in


def test_streams_pass_through_tls_to_both_replicas(stack: Stack) -> None:
    key = stack.new_key("streaming")
    with stack.sdk(key) as client, client.responses.stream(model="openai/gpt-5.1", input="Say hello.") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text != ""
    answers = Crowd(stack, key, 20).answers()
    assert all(answer.whole and b"response.completed" in answer.body for answer in answers)
    assert all(count(stack, replica, "weighbridge_requests_total", 'outcome="completed"') > 0 for replica in REPLICAS)
    records = stack.records("streaming")
    assert [record["outcome"] for record in records] == ["completed"] * (CALLS + 1)
    assert len({record["request_id"] for record in records}) == CALLS + 1


def test_one_first_key_is_shown_and_no_secret_is(stack: Stack) -> None:
    logs = stack.compose("logs", "--no-color")
    assert len(re.findall(r"OPENAI_API_KEY=sk-wb-[A-Za-z0-9]{20,}", logs)) == 1
    assert f"OPENAI_BASE_URL=https://localhost:{stack.port('caddy', 443)}/api/v1" in logs
    assert [name for name, secret in stack.secrets.items() if secret in logs] == []
    shown = [json.dumps(inspected("container", id_)) for id_ in stack.containers().values()]
    assert [name for name, secret in stack.secrets.items() if any(secret in text for text in shown)] == []


def test_commands_in_one_replica_count_in_both(stack: Stack) -> None:
    assert stack.exec("python", "-c", OWN_KEY, "sk-wb-unknown") == "401\n"
    made = stack.new_key("alice")
    ran = stack.compose("run", "--rm", "-T", "weighbridge", "keys", "create", "bob").strip()
    for index in REPLICAS:
        for key in (made, ran):
            assert stack.exec("python", "-c", OWN_KEY, key, index=index) == "200\n"
    with stack.sdk(ran) as client:
        assert client.responses.create(model="openai/gpt-5.1", input="Say hello.").output_text
    by_client = stack.compose("run", "--rm", "-T", "weighbridge", "usage", "--by", "client", "--json")
    assert "bob" in by_client


@pytest.mark.parametrize(
    ("limit", "error_type", "let_in"),
    [
        (("--rpm", "12"), "rate_limited", 12),
        (("--concurrency", "7"), "rate_limited", 7),
        # four calls that may come to some 2,050 tokens each, and one that takes what is left
        (("--budget-tokens", "10000/day"), "insufficient_quota", 5),
    ],
    ids=["rate", "at once", "budget"],
)
def test_limits_hold_over_both(stack: Stack, limit: tuple[str, str], error_type: str, let_in: int) -> None:
    client = f"limited-by-{limit[0].strip('-')}"
    key = stack.new_key(client)
    stack.exec("weighbridge", "clients", "set", client, *limit)
    eventually(lambda: not any(count(stack, i, "weighbridge_streams_in_flight") for i in REPLICAS), "quiet")
    answers, let_in_by = held_at_once(stack, key, CALLS, 2000)
    assert sum(let_in_by) == let_in
    assert all(let_in_by)  # or nothing was shared
    refused = [answer for answer in answers if answer.status != 200]
    assert len(answers) - len(refused) == let_in
    assert {(answer.status, answer.error_type) for answer in refused} == {(429, error_type)}


def test_when_one_replica_crashes_the_other_goes_on(stack: Stack) -> None:
    key = stack.new_key("crashing")
    crowd = Crowd(stack, key, 480)  # 12 s, of which finding and killing one takes three or more
    assert all(count(stack, index, "weighbridge_streams_in_flight") > 0 for index in REPLICAS)
    name, victim = min(stack.containers("weighbridge").items())
    lives = inspected("container", victim)["RestartCount"]
    stack.kill(victim)
    with stack.sdk(stack.new_key("meanwhile", index=2)) as client:
        for _ in range(5):
            assert client.responses.create(model="openai/gpt-5.1", input="Say hello.").output_text
    answers = crowd.answers()
    whole = sum(answer.whole and b"response.completed" in answer.body for answer in answers)
    assert 0 < whole < CALLS

    def outcomes() -> list[str]:
        found = sorted(record["outcome"] for record in stack.records("crashing"))
        return found if "in_progress" not in found else []

    eventually(lambda: inspected("container", victim)["State"].get("Health", {}).get("Status") == "healthy", name)
    assert inspected("container", victim)["RestartCount"] == lives + 1
    assert eventually(outcomes, "settled records") == ["completed"] * whole + ["interrupted"] * (CALLS - whole)


def test_stopped_under_load_nothing_is_lost_and_up_again_all_is_known(stack: Stack) -> None:
    key = stack.new_key("stopped")
    crowd = Crowd(stack, key, 480)  # 12 s: longer than an engine waits that nobody has told otherwise
    stack.compose("stop")
    answers = crowd.answers()
    assert all(answer.whole and b"response.completed" in answer.body for answer in answers)
    states = {name: inspected("container", id_)["State"] for name, id_ in stack.containers().items()}
    assert {name: state["ExitCode"] for name, state in states.items()} == dict.fromkeys(states, 0)
    stack.up()
    assert [record["outcome"] for record in stack.records("stopped")] == ["completed"] * CALLS
    with stack.sdk(key) as client:
        assert client.responses.create(model="openai/gpt-5.1", input="Say hello.").output_text


def test_recreated_on_the_same_volumes_it_knows_its_keys(stack: Stack) -> None:
    key = stack.new_key("recreated")
    stack.compose("down")
    stack.up()
    with stack.sdk(key) as client:
        assert client.responses.create(model="openai/gpt-5.1", input="Say hello.").output_text
    assert len(stack.records("recreated")) == 1
