"""An upstream whose events say when they left, and that knows every byte it sent."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator

EVENTS = 20
INTERVAL_SECONDS = 0.05

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class ClockedUpstream:
    """Made by `clocked_upstream`. Each answer has an id and a weight of its own: its number in input tokens."""

    def __init__(self) -> None:
        self.url = ""
        self.sent: dict[str, bytearray] = {}
        self._numbers = itertools.count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
                await self._answer(writer)

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        response_id = f"resp_{number:06}"
        sent = self.sent[response_id] = bytearray()

        def send(kind: str, **fields: object) -> None:
            event = {"type": kind, "sent_at": time.monotonic(), **fields}
            piece = f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode()
            sent.extend(piece)
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))

        writer.write(_HEAD)
        send("response.created", response={"id": response_id, "status": "in_progress"})
        for _ in range(EVENTS):
            send("response.output_text.delta", delta="la ")
            await asyncio.sleep(INTERVAL_SECONDS)
        usage = {"input_tokens": number, "output_tokens": EVENTS, "total_tokens": number + EVENTS}
        send("response.completed", response={"id": response_id, "status": "completed", "usage": usage})
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@contextlib.asynccontextmanager
async def clocked_upstream() -> AsyncIterator[ClockedUpstream]:
    """One that listens on a free port of this machine."""
    upstream = ClockedUpstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    yield upstream
    server.close()
