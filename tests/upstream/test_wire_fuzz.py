"""Answers damaged in every way, cut in every way: the wire keeps its word, and the next caller gets its own answer."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from app.upstream.wire.wire import UpstreamWire
from tests.upstream.conftest import Certificates, Scene
from tests.upstream.hearing import Hearing
from tests.upstream.raw_server import Peer, chunked, sized, turns, until
from tests.upstream.strict_answer import StrictAnswer, read_strictly

VALID = [
    sized(b'{"id": "resp_1", "output": []}', b"content-type: application/json"),
    sized(b"line ends\r\n\r\n"),
    sized(b""),
    chunked(b"data: one\n\n", b"data: two\n\n", b"\r\n", headers=(b"content-type: text/event-stream",)),
    chunked(b"hi", trailers=b"x-late: 1\r\n"),
    chunked(),
    b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"after an interim answer"),
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
    sized(b"bye", b"connection: close"),
]
TELLING = [b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"\n", b"\0", b"0", b"1", b":", b";", b" ", b"content-length: 1\r\n"]

Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Something done to bytes, at a place given as a fraction of them."""
    where, length = draw(st.floats(0, 1)), draw(st.integers(1, 12))
    kind = draw(st.sampled_from(["flip", "delete", "repeat", "cut", "insert"]))
    extra = draw(st.sampled_from([*TELLING, *VALID]) | st.binary(min_size=1, max_size=4))

    def damage(data: bytes) -> bytes:
        at = int(where * len(data))
        before, piece, after = data[:at], data[at : at + length], data[at + length :]
        match kind:
            case "flip":
                return before + bytes(byte ^ 1 << length % 8 for byte in piece[:1]) + piece[1:] + after
            case "delete":
                return before + after
            case "repeat":
                return before + piece + piece + after
            case "cut":
                return before
        return before + extra + piece + after

    return damage


@dataclass(frozen=True)
class Plan:
    """What upstream does with one request."""

    pieces: tuple[bytes, ...]
    close: bool

    @property
    def sent(self) -> bytes:
        return b"".join(self.pieces)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    answer = draw(st.sampled_from(VALID))
    for damage in draw(st.lists(damages(), max_size=3)):
        answer = damage(answer)
    cuts = sorted({int(cut * len(answer)) for cut in draw(st.lists(st.floats(0, 1), max_size=5))})
    edges = [0, *cuts, len(answer)]
    pieces = tuple(answer[a:b] for a, b in itertools.pairwise(edges) if a < b)
    return Plan(pieces, draw(st.booleans()))


@dataclass
class Upstream:
    """Answers by the plan that is set, and by counting when none is."""

    plan: Plan | None = None
    carried_out: bool = False
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    last: int = -1

    async def script(self, peer: Peer) -> None:
        while await peer.request() is not None:
            plan, self.plan = self.plan, None
            if plan is None:
                self.last = next(self.numbers)
                await peer.send(sized(b"canned %d" % self.last))
                continue
            await peer.send(*plan.pieces)
            self.carried_out = True
            if plan.close:
                return

    async def ask(self, scene: Scene, wire: UpstreamWire, plan: Plan) -> Hearing:
        """One call by the plan, heard to its end or, where the plan leaves it open, cancelled."""
        self.plan, self.carried_out = plan, False
        hearing = scene.open(wire)
        await until(lambda: self.carried_out)
        if plan.close:
            await hearing.finished()
        await turns()
        if not hearing.over:
            hearing.cancel()
        return hearing


def judge(hearing: Hearing, sent: bytes) -> StrictAnswer | None:
    """An answer that the wire called whole is the one that was sent."""
    strict = read_strictly(sent)
    if hearing.ended:
        assert strict is not None, sent
        assert (hearing.status, hearing.body) == (strict.status, strict.body), sent
    return strict


async def try_out(scene: Scene, wire: UpstreamWire, upstream: Upstream, plan: Plan) -> None:
    hearing = await upstream.ask(scene, wire, plan)
    strict = judge(hearing, plan.sent)
    event("ended" if hearing.ended else "broken" if hearing.over else "left open")
    if wire.connections()["idle"]:  # kept for the next caller: then not a byte was over
        assert strict is not None
        assert strict.used_bytes == len(plan.sent), plan.sent
        event("kept")
    for _ in range(2):
        follower = await scene.ask(wire)
        assert follower.body == b"canned %d" % upstream.last
        assert follower.retry_count == 0 or plan.close
    assert hearing.wrong == []
    assert scene.loop_faults == []


@pytest.mark.timeout(300)  # the long profile takes a minute
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=plans())
async def test_no_damage_reaches_the_next_caller(scene: Scene, perhaps_tls: Certificates | None, plan: Plan) -> None:
    upstream = Upstream()
    wire, server = await scene.wired_to(upstream.script, perhaps_tls)
    await try_out(scene, wire, upstream, plan)
    await wire.close()
    await server.close()


@pytest.mark.parametrize("answer", VALID, ids=range(len(VALID)))
def test_the_second_opinion_knows_a_whole_answer_from_a_part(answer: bytes) -> None:
    whole = read_strictly(answer)
    assert whole is not None
    if whole.used_bytes is None:
        return
    assert whole.used_bytes == len(answer)
    assert read_strictly(answer + b"surplus") == whole
    assert all(read_strictly(answer[:cut]) is None for cut in range(len(answer)))
