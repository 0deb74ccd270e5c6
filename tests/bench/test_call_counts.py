"""How many functions of `app/` the loop's thread calls for one call, and for one event: a guard against doublings.

Counted, not timed, and each answer comes in one piece: a busy machine changes nothing. `make bench` says what a call
costs in microseconds.
"""

import json
import signal
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import ASK, ASK_STREAM, Body, encoded
from tests.e2e.program import Gateway, Process, eventually
from tests.e2e.replay import ReplayUpstream, Script, document, stream

CALLS = 100
COUNTED = (sys.executable, "-m", "tests.bench.counted")
ROOT = Path(__file__).parents[2]
LIMITS = ("--rpm", "1000000", "--tpm", "1000000000", "--concurrency", "1000", "--budget-usd", "1000/month")
USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 123,
    "cost": 0.00042,
}
RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "model": "openai/gpt-5.1", "usage": USAGE}
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"word "}\n\n'
END = b"event: response.completed\ndata: " + json.dumps({"type": "response.completed", "response": RESPONSE}).encode()
EVENTS = 200

# What a call may cost, in function calls: some 6 % above what was counted last. Lower them when the count is lower.
MOST_OF_A_JSON_CALL = 180
MOST_OF_A_LIMITED_JSON_CALL = 222
MOST_OF_AN_EVENT = 10


class CountedGateway(Gateway):
    """The program with its function calls counted."""

    def _start(self) -> Process:
        self._report = self.folder / "calls.json"
        self._serve_env |= {"COUNTED_CALLS": str(self._report), "PYTHONPATH": str(ROOT)}
        started = Process(self._arguments, self._serve_env, r"ready at (http://\S+)\n", self.folder, COUNTED)
        self.url = started.url
        self.admin_key = (self.state_dir / "admin-key").read_text().strip()
        return started

    def count(self) -> dict[str, int]:
        """What was counted since the last time, by function."""
        self._report.unlink(missing_ok=True)
        self.process.tell(signal.SIGUSR2)
        eventually(self._report.exists, "the count")
        counted: dict[str, int] = json.loads(self._report.read_text())
        return counted

    def ask(self, connection: HTTPConnection, body: Body, script: dict[str, str]) -> HTTPResponse:
        """One call on a connection that stays open."""
        fixed = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        connection.request("POST", "/api/v1/responses", encoded(body), {**fixed, **script})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return answer


@pytest.fixture(scope="module")
def counted(
    replay: ReplayUpstream, canary_key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CountedGateway]:
    env = {"WEIGHBRIDGE_UPSTREAM_URL": replay.url, "WEIGHBRIDGE_LOG_LEVEL": "info"}
    with CountedGateway(tmp_path_factory.mktemp("counted"), canary_key, **env) as gateway:
        yield gateway


@pytest.fixture
def connection(counted: CountedGateway) -> Iterator[HTTPConnection]:
    opened = HTTPConnection(urlsplit(counted.url).netloc)
    yield opened
    opened.close()


def calls_of_a_json_call(gateway: CountedGateway, connection: HTTPConnection, upstream: ReplayUpstream) -> float:
    """Function calls of one call, once connections and caches are warm. Prints them by function."""
    whole = document(json.dumps(RESPONSE).encode())
    script = upstream.play(Script(whole.head + b"".join(whole.pieces)))
    for _ in range(20):
        gateway.ask(connection, ASK, script).read()
    gateway.count()
    for _ in range(CALLS):
        gateway.ask(connection, ASK, script).read()
    counts = {name: count / CALLS for name, count in gateway.count().items()}
    sys.stdout.write("".join(f"{count:8.2f} {name}\n" for name, count in counts.items() if count >= 0.05))
    sys.stdout.write(f"{sum(counts.values()):8.2f} in all\n")
    return sum(counts.values())


def test_a_json_call(counted: CountedGateway, connection: HTTPConnection, replay: ReplayUpstream) -> None:
    assert calls_of_a_json_call(counted, connection, replay) <= MOST_OF_A_JSON_CALL


def test_an_event(counted: CountedGateway, connection: HTTPConnection, replay: ReplayUpstream) -> None:
    """What a stream of many events costs more than one of few, each event in a read of its own."""

    def calls_of(events: int) -> int:
        body = DELTA * events + END + b"\n\n"
        script = stream(body, range(len(DELTA), len(body), len(DELTA)), lockstep=True)
        answer = counted.ask(connection, ASK_STREAM, replay.play(script))
        counted.count()
        read = 0
        while piece := answer.read1(65_536):
            read += len(piece)
            script.arrived(read)
        return sum(counted.count().values())

    calls_of(EVENTS)
    an_event = (calls_of(2 * EVENTS) - calls_of(EVENTS)) / EVENTS
    sys.stdout.write(f"{an_event:.2f} an event\n")
    assert an_event <= MOST_OF_AN_EVENT


def test_a_json_call_with_limits(counted: CountedGateway, connection: HTTPConnection, replay: ReplayUpstream) -> None:
    counted.command("clients", "set", "default", *LIMITS)
    assert calls_of_a_json_call(counted, connection, replay) <= MOST_OF_A_LIMITED_JSON_CALL
