"""Laws of an exchange: whatever upstream, the client, the disk and we do, in whatever order, these hold."""

import asyncio
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.domain.disconnect import nearly_done
from app.domain.errors import UpstreamFault, UpstreamProtocolError, UpstreamTimedOut, UpstreamUnreachable
from app.domain.records import Outcome, UsageSource
from app.gateway.exchange.ending import Ending
from tests.gateway.house import COMPLETED, CREATED, DELTA, DONE, JSON_CALL, STREAM_CALL, House, event, response

FAILED = event("response.failed", response=response("failed"))
COMMENT = b": still there\n\n"
FLOOD = b": " + b"x" * 300_000 + b"\n\n"
JSON = b'{"id":"resp_1","object":"response","status":"completed","usage":{"input_tokens":1}}'
FAULTS = (UpstreamUnreachable("no"), UpstreamProtocolError("cut"), UpstreamTimedOut("silence"))
SPOKEN = {Outcome.COMPLETED, Outcome.FAILED}
HELD_LIMIT = 256 * 1024
EVENTS = st.sampled_from([CREATED, DELTA, COMMENT, COMPLETED, FAILED, DONE, FLOOD])


def cut(text: bytes, places: set[int]) -> list[bytes]:
    inside = sorted({place % len(text) for place in places} - {0}) if text else []
    return [text[start:stop] for start, stop in zip([0, *inside], [*inside, len(text)], strict=True) if start < stop]


def end_of_first(text: bytes, event: bytes) -> int | None:
    """Where the closing brace of `event` stands in `text`, plus one."""
    start = text.find(event)
    return None if start < 0 else start + event.rindex(b"}") + 1


class HandLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes when told to."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def run(self, step: Callable[[], None]) -> None:
        """Take a step that may set timers."""

        async def take() -> None:
            step()

        self.run_until_complete(take())

    def pass_time(self, seconds: float) -> None:
        self._now += seconds
        self.run_until_complete(asyncio.sleep(0))


class ExchangeLaws(RuleBasedStateMachine):
    """One exchange; the machine is upstream, the client, the disk and the operator in turn."""

    @initialize(
        stream=st.booleans(),
        at_once=st.booleans(),
        events=st.lists(EVENTS, max_size=6) | st.just([CREATED, COMPLETED, FLOOD, DONE]),
        places=st.sets(st.integers(1, 10_000), max_size=8),
        status=st.sampled_from([200] * 12 + [201, 302, 401, 403, 404, 429, 500, 700]),
        trouble=st.sampled_from(["none", "upstream", "client", "shutdown"]),
        trouble_at=st.integers(0, 9),
    )
    def arrive(
        self,
        stream: bool,
        at_once: bool,
        events: list[bytes],
        places: set[int],
        status: int,
        trouble: str,
        trouble_at: int,
    ) -> None:
        self.loop = HandLoop()
        self.house = House(at_once=at_once)
        self.visit = self.house.visit(STREAM_CALL if stream else JSON_CALL)
        self.stream = stream
        answer = b"".join(events) if stream else JSON
        self.pieces = cut(answer, places)
        if stream:
            ends = [end for kind in (COMPLETED, FAILED) if (end := end_of_first(answer, kind)) is not None]
            self.visible = min(ends, default=None)
        else:
            self.visible = len(answer)
        self.status = status
        self.headed = False
        self.trouble = trouble
        self.trouble_at = trouble_at
        self.said = b""  # by upstream, as body
        self.may_pass = 0  # how much of it the client may have before the commit
        self.last = b""
        self.slow = False
        self.gone = False
        self.committed = at_once

    # -- upstream ----------------------------------------------------------------------------------------------

    def upstream_speaks(self) -> bool:
        return not self.visit.upstream.over

    def due(self, *troubles: str) -> bool:
        """Is it time for this trouble? It comes once so many pieces are left: else most calls would end too soon."""
        return self.trouble in troubles and len(self.pieces) <= self.trouble_at

    @precondition(lambda self: self.upstream_speaks() and not self.headed)
    @rule(retries=st.integers(0, 1))
    def head(self, retries: int) -> None:
        self.headed = True
        kind = b"text/event-stream" if self.stream else b"application/json"
        self.visit.upstream.head(self.status, (b"content-type", kind), retry_count=retries)

    @precondition(lambda self: self.upstream_speaks() and self.headed and self.pieces)
    @rule(count=st.integers(1, 9))
    def data(self, count: int) -> None:
        for _ in range(min(count, len(self.pieces))):
            piece = self.pieces.pop(0)
            self.said += piece
            self.last = piece
            if self.visible is None or len(self.said) < self.visible:
                self.may_pass = len(self.said)
            self.visit.upstream.data(piece)

    @precondition(lambda self: self.upstream_speaks() and self.headed and not self.pieces)
    @rule()
    def end(self) -> None:
        self.visit.upstream.end()

    @precondition(lambda self: self.upstream_speaks() and self.due("upstream"))
    @rule(fault=st.sampled_from(FAULTS), retries=st.integers(0, 1), whole=st.booleans())
    def broken(self, fault: UpstreamFault, retries: int, whole: bool) -> None:
        if whole and self.headed:
            self.visit.upstream.end()
        else:
            self.visit.upstream.broken(fault, retries)

    # -- the client, the disk, the operator --------------------------------------------------------------------

    @precondition(lambda self: not self.gone)
    @rule(slow=st.booleans())
    def the_client_is_slow_or_not(self, slow: bool) -> None:
        self.slow = slow
        (self.visit.exchange.buffer.pause if slow else self.visit.exchange.buffer.resume)()

    @rule()
    def commit(self) -> None:
        self.committed = self.committed or self.visit.settled
        self.visit.commit()

    @precondition(lambda self: not self.gone and self.due("client", "shutdown"))
    @rule()
    def go(self) -> None:
        self.settled_before = self.visit.settled
        self.parting = (self.visit.client.received, self.visit.client.ending)
        self.gone = True
        if self.trouble == "shutdown":
            self.visit.exchange.end_by(Ending.DOOR_FAILED)
        else:
            self.loop.run(self.visit.exchange.leave)
        nearly = not self.headed or (self.passing and (not self.stream or nearly_done(self.last)))
        graced = self.trouble == "client" and nearly and not self.settled_before
        assert self.visit.upstream.over is not graced
        assert self.visit.settled is not graced

    @precondition(lambda self: self.gone)
    @rule()
    def time_passes(self) -> None:
        """More of it than any policy waits for upstream once the client is gone."""
        self.loop.pass_time(4000)
        assert self.visit.upstream.over
        assert self.visit.settled

    @invariant()
    def who_is_gone_gets_nothing_more(self) -> None:
        if self.gone:
            assert (self.visit.client.received, self.visit.client.ending) == self.parting

    # -- the laws ----------------------------------------------------------------------------------------------

    @property
    def passing(self) -> bool:
        return self.headed and 200 <= self.status < 300

    @invariant()
    def a_settled_record_is_settled_for_good(self) -> None:
        if self.visit.settled:
            assert self.visit.exchange.record == self.visit.record
        assert self.house.gateway.in_flight == self.house.observer.streams == (0 if self.visit.settled else 1)

    @invariant()
    def the_end_waits_for_the_record_and_nothing_else_waits(self) -> None:
        client = self.visit.client
        if client.ending is not None:
            assert self.visit.settled
            assert self.committed
        if not self.passing:
            return
        assert self.said.startswith(client.received)
        if not self.gone:
            expected = len(self.said) if self.committed and self.visit.settled else self.may_pass
            assert len(client.received) == expected

    @invariant()
    def upstream_waits_while_the_client_does_and_not_longer(self) -> None:
        if self.visit.upstream.over or self.gone:
            return
        held = len(self.said) - len(self.visit.client.received) if self.passing else 0
        waits = self.visit.upstream.paused.is_set()
        if self.slow:
            assert waits
        elif held <= HELD_LIMIT:
            assert not waits
        else:
            assert waits

    def teardown(self) -> None:
        if not hasattr(self, "visit"):
            return
        self.loop.close()
        if not self.visit.upstream.over:
            self.visit.upstream.broken(FAULTS[1])
        self.commit()
        self.a_settled_record_is_settled_for_good()
        self.the_end_waits_for_the_record_and_nothing_else_waits()
        assert self.visit.settled
        if not self.gone:
            self._answered_whole()

    def _answered_whole(self) -> None:
        client, record = self.visit.client, self.visit.record
        assert record.http_status is not None
        if self.passing:
            assert client.received == self.said
            assert client.ending in ("finish", "abort")
            weighed = self.visible is not None and len(self.said) >= self.visible
            assert weighed == (record.outcome in SPOKEN and record.usage_source is UsageSource.REPORTED)
        elif client.ending == "finish":
            assert (client.status, client.received) == (self.status, self.said)
            assert record.outcome is Outcome.UPSTREAM_ERROR
        else:
            assert client.ending == "refuse"
            assert client.received == b""
            assert client.error is not None
            assert (client.error.status, client.error.error_type) == (record.http_status, record.error_type)


TestExchangeLaws = ExchangeLaws.TestCase
TestExchangeLaws.settings = settings(max_examples=max(240, settings().max_examples), stateful_step_count=20)
