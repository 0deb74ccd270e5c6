"""An upstream that misbehaves: byte by byte as an act says, on a thread and a loop of its own, and it forgets nothing.

A call names its act by the header `x-fault`, which crosses the gateway. One that names none is answered well.
"""

import asyncio
import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from tests.upstream.raw_server import HeardRequest, Peer, RawServer, chunked

Ending = Literal["keep", "close", "reset", "hold", "flood"]
Result = TypeVar("Result")
_PRICE_QUESTION = b"GET /api/v1/models "  # the gateway asks it by itself, a second after its start
_PIECES_APART_SECONDS = 0.005

EVENT = b'data: {"type":"response.output_text.delta","delta":"hello"}\n\n'
COMPLETED = (
    b'data: {"type":"response.completed","response":{"id":"resp_e","object":"response","status":"completed",'
    b'"model":"gpt-5.1","usage":{"input_tokens":11,"output_tokens":7,"total_tokens":18}}}\n\n'
)
STREAM_HEADERS = (b"content-type: text/event-stream",)
GOOD_BODY = EVENT + COMPLETED
GOOD = chunked(EVENT, COMPLETED, headers=STREAM_HEADERS)


@dataclass
class Act:
    """What upstream does with a call: the pieces, each by itself, and then the ending.

    `hold` says nothing more until the gateway hangs up; `flood` says the last piece again and again until then.
    Unless it `reads_body`, nothing is read but the head.
    """

    pieces: tuple[bytes, ...] = ()
    ending: Ending = "keep"
    reads_body: bool = True
    served: int = 0
    sent: list[Callable[[], int]] = field(default_factory=list)  # of each connection: bytes given to the system
    gone: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class FaultServer:
    """`url` is what to give the gateway as its upstream. `heads` and `bodies` are all that ever came."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault server", daemon=True)
        self._thread.start()
        self._acts: dict[bytes, Act] = {}
        self._numbers = itertools.count()
        self._server = RawServer(self._serve)
        self._greeting: Callable[[Peer], Awaitable[None]] | None = None
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.run(self._server.start(tls, host, port))
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}/api/v1"

    def run(self, what: Coroutine[Any, Any, Result]) -> Result:
        """On the server's own loop."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def play(self, act: Act) -> dict[str, str]:
        """Keep the act; gives the header that calls for it."""
        name = f"act-{next(self._numbers)}"
        self._acts[name.encode()] = act
        return {"x-fault": name}

    def answer(self, whole: bytes) -> dict[str, str]:
        """The header that calls for this answer."""
        return self.play(Act((whole,)))

    @contextlib.contextmanager
    def greeted(self, greeting: Callable[[Peer], Awaitable[None]]) -> Iterator[None]:
        """In place of everything else, what happens on a new connection."""
        self._greeting = greeting
        try:
            yield
        finally:
            self._greeting = None

    def forget(self) -> None:
        """All acts and calls so far, when no call is under way."""
        self._acts.clear()
        self.heads.clear()
        self.bodies.clear()

    @property
    def accepted(self) -> int:
        return self._server.accepted

    @property
    def lines(self) -> set[bytes]:
        """Every request line that ever came."""
        return {head.split(b"\r\n", 1)[0] for head in self.heads}

    def close(self) -> None:
        try:
            self.run(self._server.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    async def _serve(self, peer: Peer) -> None:
        if self._greeting is not None:
            await self._greeting(peer)
            return
        while (head := await peer.head()) is not None:
            if not head.startswith(_PRICE_QUESTION):
                self.heads.append(head)
            named = HeardRequest(head, b"").values(b"x-fault")
            act = self._acts.get(named[0]) if named else None
            if act is None:
                act = Act((GOOD,))
            if act.reads_body:
                body = await peer.body(head)
                if body is None:
                    return
                self.bodies.append(body)
            if not await self._perform(peer, act):
                return

    @staticmethod
    async def _perform(peer: Peer, act: Act) -> bool:
        """False when the connection is over."""
        act.served += 1
        before = peer.sent_bytes
        act.sent.append(lambda: peer.sent_bytes - before)
        for number, piece in enumerate(act.pieces):
            if number:
                await asyncio.sleep(_PIECES_APART_SECONDS)
            await peer.send(piece)
        if act.ending == "keep":
            return True
        if act.ending == "reset":
            with contextlib.suppress(OSError):  # the gateway was quicker
                peer.reset()
        elif act.ending in {"hold", "flood"}:
            flood = asyncio.ensure_future(_flood(peer, act.pieces[-1])) if act.ending == "flood" else None
            try:
                if act.reads_body and await peer.some():
                    return False  # the next request: whoever holds is no good for that, and says so
                await peer.until_closed()
            finally:
                if flood is not None:
                    flood.cancel()
                    await asyncio.gather(flood, return_exceptions=True)
            act.gone.release()
        return False


async def _flood(peer: Peer, piece: bytes) -> None:
    while not peer.gone:
        await peer.send(piece)


@contextlib.contextmanager
def deaf_port(host: str = "127.0.0.1", port: int = 0) -> Any:  # noqa: ANN401 - a context manager of a port number
    """A port at which nobody answers a SYN: it listens, its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield port
