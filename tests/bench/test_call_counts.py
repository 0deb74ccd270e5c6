"""How many functions of `app/` the loop's thread calls for one call, and for one event: a guard against doublings.

Counted, not timed, so a busy machine changes nothing. `make bench` says what it costs in microseconds.
"""

import http.client
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import ASK, ASK_STREAM, Body, encoded
from tests.e2e.program import Gateway, Mock, Process, eventually

CALLS = 100
COUNTED = (sys.executable, "-m", "tests.bench.counted")
ROOT = Path(__file__).parents[2]
LIMITS = ("--rpm", "1000000", "--tpm", "1000000000", "--concurrency", "1000", "--budget-usd", "1000/month")

# What a call may cost, in function calls: 10 % above what was counted last. Lower them when a change lowers the count.
MOST_OF_A_JSON_CALL = 193
MOST_OF_A_LIMITED_JSON_CALL = 252
MOST_OF_AN_EVENT = 3  # several come in one read here


class CountedGateway(Gateway):
    """The program with its function calls counted."""

    def _start(self) -> Process:
        self._report = self.folder / "calls.json"
        self._serve_env |= {"COUNTED_CALLS": str(self._report), "PYTHONPATH": str(ROOT)}
        started = Process(self._arguments, self._serve_env, r"ready at (http://\S+)\n", self.folder, COUNTED)
        self.url = started.url
        self.admin_key = (self.state_dir / "admin-key").read_text().strip()
        return started

    def calls_of(self, body: Body) -> dict[str, float]:
        """Function calls of one call with this body, by function, once connections and caches are warm."""
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc)) as connection:
            self._ask(connection, body, 20)
            self._turn()
            self._ask(connection, body, CALLS)
            return {name: count / CALLS for name, count in self._turn().items()}

    def _ask(self, connection: http.client.HTTPConnection, body: Body, times: int) -> None:
        self.events = 0
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        for _ in range(times):
            connection.request("POST", "/api/v1/responses", encoded(body), headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            self.events += answer.read().count(b"data: ")

    def _turn(self) -> dict[str, int]:
        self._report.unlink(missing_ok=True)
        self.process.tell(signal.SIGUSR2)
        eventually(self._report.exists, "the count")
        counted: dict[str, int] = json.loads(self._report.read_text())
        return counted


@pytest.fixture(scope="module")
def counted(mock_process: Mock, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedGateway]:
    folder = tmp_path_factory.mktemp("counted")
    upstream = f"{mock_process.url}/api/v1"
    with CountedGateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=upstream, WEIGHBRIDGE_LOG_LEVEL="info") as gateway:
        yield gateway


def told(counts: dict[str, float]) -> str:
    """The counts, the dearest first, for whoever has to find what grew."""
    lines = [f"{count:8.2f} {name}" for name, count in counts.items() if count >= 0.05]
    return "\n".join([f"{sum(counts.values()):8.2f} in all", *lines])


def test_a_json_call(counted: CountedGateway) -> None:
    counts = counted.calls_of(ASK)
    assert sum(counts.values()) <= MOST_OF_A_JSON_CALL, told(counts)


def test_an_event(counted: CountedGateway) -> None:
    """What a longer stream costs more, by the events that it has more."""
    short = sum(counted.calls_of({**ASK_STREAM, "max_output_tokens": 16}).values())
    events = counted.events / CALLS
    counts = counted.calls_of({**ASK_STREAM, "max_output_tokens": 512})
    more = (sum(counts.values()) - short) / (counted.events / CALLS - events)
    assert more <= MOST_OF_AN_EVENT, f"{more:.2f} an event; of a whole stream:\n{told(counts)}"


def test_a_json_call_with_limits(counted: CountedGateway) -> None:
    counted.command("clients", "set", "default", *LIMITS)
    counts = counted.calls_of(ASK)
    assert sum(counts.values()) <= MOST_OF_A_LIMITED_JSON_CALL, told(counts)
