"""The connections to one upstream: idle, busy (with a call), and being opened.

    submit(call) ──> the idle connection used last ──> carries the call
                └──> none idle: a task opens one  ──> carries the call
                                     └── refused, TLS, too slow: call.broken(UpstreamUnreachable)

Taking, returning and losing a connection are O(1). There is no limit of connections and no queue here, since the
gateway limits calls (`max_streams`). One timer ends calls that wait too long and connections that idle too long.

A call is sent again only if upstream cannot have worked on it: see UpstreamConnection.ended_before_call.
"""

import asyncio
import socket
import ssl
import time
from dataclasses import dataclass

from app.domain.errors import UpstreamFault, UpstreamProtocolError, UpstreamTimedOut, UpstreamUnreachable
from app.upstream.wire.call import WireCall
from app.upstream.wire.connection import UpstreamConnection
from app.upstream.wire.dialing import Dialer
from app.upstream.wire.fault_details import unreachable_detail
from app.upstream.wire.target import Origin, Proxy
from app.upstream.wire.tunnel import TunnelRefusedError, open_tunnel

LONGEST_REPEAT_SECONDS = 0.1
_LONGEST_SWEEP_SECONDS = 1.0


@dataclass(slots=True, frozen=True)
class WireTimeouts:
    """Seconds. `first_byte` counts from the request to the end of the answer's head, `idle` between two reads."""

    connect: float = 10.0
    first_byte: float = 600.0
    idle: float = 600.0


class Pool:
    """The connections of one origin. Use and close it on one event loop."""

    def __init__(self, origin: Origin, timeouts: WireTimeouts) -> None:
        self._origin = origin
        self._dialer = Dialer(origin.first_hop.host, origin.first_hop.port)
        self._timeouts = timeouts
        self._idle: dict[UpstreamConnection, None] = {}  # in insertion order: the last one is the freshest
        self._busy: set[UpstreamConnection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_seconds = min(_LONGEST_SWEEP_SECONDS, timeouts.first_byte / 8, timeouts.idle / 8)
        self._closed = False

    def counts(self) -> dict[str, int]:
        """Connections by state: idle, busy, opening."""
        return {"idle": len(self._idle), "busy": len(self._busy), "opening": len(self._opening)}

    def submit(self, call: WireCall) -> None:
        """Send the call on the freshest idle connection, else on a new one."""
        now = time.monotonic()
        while self._idle:
            connection, _ = self._idle.popitem()
            if now < connection.usable_until and connection.reusable:
                self._carry(connection, call)
                return
            connection.close()
        if self._closed:
            self.refuse(call, UpstreamUnreachable("The connections to upstream have been closed."))
            return
        self._open(call)

    def refuse(self, call: WireCall, fault: UpstreamFault) -> None:
        """Fail the call without sending it, in the next turn of the loop."""
        asyncio.get_running_loop().call_soon(call.broken, fault)

    async def close(self) -> None:
        """Close all connections. Open calls are not notified; later ones are refused."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._dialer.close()
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)

    # -- opening -----------------------------------------------------------------------------------------------

    def _open(self, call: WireCall) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(call))
        call.connecting = task
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, call: WireCall) -> None:
        connection = UpstreamConnection(self._returned, self._lost)
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await self._dial(connection)
        except (OSError, ValueError) as error:  # also TLS faults, time-outs, and names that no host can have
            connection.close()
            detail = unreachable_detail(error, self._origin, self._timeouts.connect)
            call.broken(UpstreamUnreachable(_why_unreachable(error, self._origin.proxy), detail=detail))
            return
        except asyncio.CancelledError:
            connection.close()  # the socket may have opened in the same turn
            raise
        finally:
            call.connecting = None
        if call.over or not connection.usable:
            connection.close()
            call.broken(UpstreamUnreachable("Upstream closed the connection as soon as it was open."))
            return
        self._carry(connection, call)

    async def _dial(self, connection: UpstreamConnection) -> None:
        origin = self._origin
        raw, connect_seconds = await self._dialer.dial()
        if origin.proxy is None:
            connection.repeat_seconds = min(connect_seconds, LONGEST_REPEAT_SECONDS)
        else:  # the round trip to upstream is unknown behind a proxy, so nothing is sent again
            try:
                await open_tunnel(raw, origin.proxy, origin)
            except BaseException:
                raw.close()
                raise
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            sock=raw,
            ssl=origin.tls,
            server_hostname=origin.host if origin.tls is not None else None,
        )

    def _carry(self, connection: UpstreamConnection, call: WireCall) -> None:
        self._busy.add(connection)
        connection.carry(call)
        if call.hold is not None:  # a large body is dropped as soon as it will not be sent again
            asyncio.get_running_loop().call_later(LONGEST_REPEAT_SECONDS, _forget_request, connection, call)
        self._watch()

    # -- called by connections ---------------------------------------------------------------------------------

    def _returned(self, connection: UpstreamConnection) -> None:
        self._busy.discard(connection)
        if self._closed:
            connection.close()
        else:
            self._idle[connection] = None

    def _lost(self, connection: UpstreamConnection, call: WireCall | None) -> None:
        self._busy.discard(connection)
        self._idle.pop(connection, None)
        if call is None or call.over:
            return
        call.connection = None
        if connection.ended_before_call and call.head and not self._closed:
            call.retry_count = 1  # happens once, since the new connection is not a reused one
            self._open(call)
            return
        call.broken(UpstreamProtocolError("Upstream closed the connection before its answer was whole."))

    # -- time --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._sweeper is None and not self._closed:
            self._sweeper = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        if self._busy or self._idle:
            self._watch()
        now = time.monotonic()
        for connection in [c for c in self._busy if c.waiting]:
            limit = self._timeouts.idle if connection.answering else self._timeouts.first_byte
            if now - connection.since > limit:
                connection.fail(UpstreamTimedOut(_why_timed_out(answering=connection.answering, limit=limit)))
            elif now - connection.since > LONGEST_REPEAT_SECONDS and connection.call is not None:
                connection.call.forget_request()
        for connection in [c for c in self._idle if now >= c.usable_until]:
            del self._idle[connection]
            connection.close()


def _forget_request(connection: UpstreamConnection, call: WireCall) -> None:
    if connection.call is call:
        call.forget_request()


_WHY_UNREACHABLE: dict[type[Exception], str] = {
    TunnelRefusedError: "{error}",
    TimeoutError: "Connecting to upstream took too long.",
    ssl.SSLCertVerificationError: "Upstream's certificate could not be verified.",
    ssl.SSLError: "The TLS handshake with upstream failed.",
    socket.gaierror: "{who} has a host name that could not be resolved.",
    ConnectionRefusedError: "{who} refused the connection.",
}


def _why_unreachable(error: Exception, proxy: Proxy | None) -> str:
    """Tells the caller which step failed, without internal addresses or certificates."""
    who = "Upstream" if proxy is None else "The proxy in front of upstream"
    why = (text for kind, text in _WHY_UNREACHABLE.items() if isinstance(error, kind))
    return next(why, "{who} could not be reached.").format(who=who, error=error)


def _why_timed_out(*, answering: bool, limit: float) -> str:
    what = "Upstream fell silent in mid-answer" if answering else "Upstream did not answer"
    return f"{what} for {limit:g} seconds."
