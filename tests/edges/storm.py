"""Clients that leave, each at a stage and in a way of its own, many at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.e2e.client import ASK_STREAM
from tests.e2e.program import Gateway
from tests.edges.fault_server import COMPLETED, EVENT, STREAM_HEADERS, Act, FaultServer
from tests.edges.raw_client import request

HEAD = b"HTTP/1.1 200 OK\r\n" + STREAM_HEADERS[0] + b"\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Leaver:
    """A client that leaves at some stage, one way or the other."""

    def __init__(self, gateway: Gateway, server: FaultServer) -> None:
        self._gateway = gateway
        self._fine = request(gateway.key)
        body = {**ASK_STREAM, "input": "x" * 200_000}
        self._large = request(gateway.key, body)
        silent = Act((), "hold")
        begun = Act((HEAD + chunk(EVENT),), "hold")
        ended = Act((HEAD + chunk(EVENT) + chunk(COMPLETED),), "hold")
        flood = Act((HEAD + chunk(EVENT), chunk(b": " + b"x" * 16_000 + b"\n\n")), "flood")
        self._calls = [request(gateway.key, headers=server.play(act)) for act in (silent, begun, ended, flood)]

    async def leave(self, rng: random.Random) -> None:
        host, port = self._gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        said, mark = self._stage(rng)
        writer.write(said)
        if mark:
            async with asyncio.timeout(20):
                await reader.readuntil(mark)
        await asyncio.sleep(rng.choice((0, 0, 0.002, 0.02)))
        if rng.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()

    def _stage(self, rng: random.Random) -> tuple[bytes, bytes]:
        """What to say, and what to wait for before leaving."""
        silent, begun, ended, flood = self._calls
        fine, large = self._fine, self._large
        return rng.choice(
            (
                (b"", b""),
                (fine[: rng.randrange(len(fine))], b""),
                (large[: rng.randrange(1000, len(large))], b""),
                (silent, b""),
                (begun, b"hello"),
                (ended, b"completed"),
                (flood, b"x" * rng.randrange(1, 16_000)),
                (fine, b""),
            )
        )


async def storm(leave: Callable[[random.Random], Awaitable[None]], count: int, at_once: int = 60) -> None:
    """So many, never more than that at once."""
    room = asyncio.Semaphore(at_once)

    async def one(seed: int) -> None:
        async with room:
            await leave(random.Random(seed))

    await asyncio.gather(*(one(seed) for seed in range(count)))
