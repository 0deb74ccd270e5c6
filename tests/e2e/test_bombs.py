"""Bodies made to hurt, 32 MiB each, one after another: memory stays bounded, and others are served meanwhile."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.client import opened
from tests.e2e.program import Gateway
from tests.e2e.replay import ReplayUpstream, document

MIB = 2**20
SIZE = 32 * MIB
HEAD = b'{"model":"m","input":'
BOMBS: dict[str, Callable[[], bytes]] = {
    "dicts": lambda: HEAD + b"[" + b"{}," * ((SIZE - 100) // 3) + b"1]}",
    "filled": lambda: HEAD + b"[" + b'{"":0},' * ((SIZE - 100) // 7) + b"1]}",
    "deep": lambda: HEAD + b"[" * (SIZE - 100),
    "digits": lambda: HEAD + b"9" * (SIZE - 100) + b"}",
    "keys": lambda: b"{" + b",".join(b'"%x":1' % number for number in range(2_000_000)) + b"}",
    "escapes": lambda: HEAD + b'"' + b"\\n" * ((SIZE - 100) // 2) + b'"}',
    "wide": lambda: HEAD + b'"' + "\U0001f44b".encode() + b"a" * (SIZE - 100) + b'"}',
    "key": lambda: b'{"' + b"k" * (SIZE - 100) + b'":1}',
    "spaces": lambda: HEAD + b" " * (SIZE - 100) + b"1}",
}
QUICK = [("dicts", "identity"), ("wide", "gzip"), ("keys", "identity")]
SLOW = [(name, coding) for name in BOMBS for coding in ("identity", "gzip") if (name, coding) not in QUICK]
TIMES_THE_BODY = 3
ELSEWHERE_BYTES = 40 * MIB  # what the process takes meanwhile for all else, and what the allocator keeps


def peak_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> int:
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_bytes(pid)


@pytest.fixture(scope="module")
def bombed(replay: ReplayUpstream, canary_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("bombed")
    with Gateway(folder, canary_key, WEIGHBRIDGE_UPSTREAM_URL=replay.url) as running:
        yield running


@pytest.mark.parametrize(("name", "coding"), QUICK + [pytest.param(*case, marks=pytest.mark.long) for case in SLOW])
def test_a_bomb(bombed: Gateway, replay: ReplayUpstream, name: str, coding: str) -> None:
    body = BOMBS[name]()
    sent = gzip.compress(body, 1) if coding == "gzip" else body
    before = forget_peak(bombed.process.popen.pid)
    done = threading.Event()
    waits: list[float] = []

    def ask_on() -> None:
        while not (waits and done.is_set()):
            began = time.monotonic()
            assert bombed.get("/healthz").status == 200
            waits.append(time.monotonic() - began)

    asking = threading.Thread(target=ask_on)
    asking.start()
    headers = {"content-encoding": coding, **replay.play(document(b"{}"))}
    with opened(f"{bombed.url}/api/v1/responses", bombed.key, sent, headers) as call:
        answer = call.rest()
    done.set()
    asking.join()
    added = peak_bytes(bombed.process.popen.pid) - before
    assert answer.status in {200, 400, 413}
    assert max(waits) < 1
    assert added <= TIMES_THE_BODY * SIZE + ELSEWHERE_BYTES
