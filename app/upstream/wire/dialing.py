"""Opens TCP connections to a host that may have several addresses, some of them dead (RFC 8305, "Happy Eyeballs").

    look the name up ──> order the addresses ──> connect to the first
                                                   │ 0.25 s without an answer, or a failure: to the next one as well
                                                   v
                                                 the first connection is used, the other attempts are dropped

An address that failed, or was slower than a later one, is tried last for a minute, so that only one call waits for it.
Calls that connect at the same time share one look-up.
"""

import asyncio
import ipaddress
import socket
import time
from collections import deque
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any

ATTEMPT_DELAY_SECONDS = 0.25
"""How long an attempt runs before the next address is tried as well; RFC 8305 recommends this."""

RECEIVE_BUFFER_BYTES = 128 * 1024
"""The kernel's buffer of one connection; it takes twice as much with its own data. The default is up to 32 MiB.

It allows so many bytes for each round trip to upstream: 2.5 MB a second over 50 ms.
"""

_TRIED_LAST_SECONDS = 60.0

Address = tuple[int, Any]
"""Address family, and the address in the socket module's form."""

Dialed = tuple[socket.socket, float]
"""A connected socket, and the seconds that connecting took: one round trip."""


class Dialer:
    """Connects to one host and port. Use and close it on one event loop."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._literal = _literal_address(host, port)
        self._lookup: asyncio.Task[list[Address]] | None = None
        self._tried_last: dict[Address, float] = {}  # until when (monotonic seconds)

    async def dial(self) -> Dialed:
        """Connect, without a time limit. Raises OSError, or ValueError for a name that no host can have."""
        return await self._race(self._ordered([self._literal] if self._literal else await self._addresses()))

    def close(self) -> None:
        """Cancel a running look-up."""
        if self._lookup is not None:
            self._lookup.cancel()

    async def _addresses(self) -> list[Address]:
        if self._lookup is None:
            self._lookup = asyncio.get_running_loop().create_task(self._look_up())
            self._lookup.add_done_callback(self._looked_up)
        return await asyncio.shield(self._lookup)

    async def _look_up(self) -> list[Address]:
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]

    def _looked_up(self, lookup: "asyncio.Task[list[Address]]") -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # asyncio logs errors that are not retrieved

    def _ordered(self, addresses: Iterable[Address]) -> list[Address]:
        """IPv6 and IPv4 in turn, in the system's order; those that failed lately come last."""
        now = time.monotonic()
        self._tried_last = {address: until for address, until in self._tried_last.items() if until > now}
        families: dict[int, list[Address]] = {}
        for address in addresses:
            families.setdefault(address[0], []).append(address)
        in_turn = chain.from_iterable(zip_longest(*families.values()))
        return sorted((address for address in in_turn if address), key=self._tried_last.__contains__)

    async def _race(self, addresses: list[Address]) -> Dialed:
        waiting = deque(addresses)
        attempts: dict[asyncio.Task[Dialed], Address] = {}
        failures: list[BaseException] = []
        try:
            while waiting or attempts:
                if waiting:
                    address = waiting.popleft()
                    attempts[asyncio.get_running_loop().create_task(_connect(address))] = address
                patience = ATTEMPT_DELAY_SECONDS if waiting else None
                done, _ = await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    address = attempts.pop(attempt)
                    failure = attempt.exception()
                    if failure is None:
                        self._try_last(addresses[: addresses.index(address)])
                        return attempt.result()
                    failures.append(failure)
        finally:
            await _drop(attempts)
        raise _best_explanation(failures)

    def _try_last(self, addresses: Iterable[Address]) -> None:
        until = time.monotonic() + _TRIED_LAST_SECONDS
        self._tried_last.update(dict.fromkeys(addresses, until))


async def _connect(address: Address) -> Dialed:
    family, where = address
    raw = socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # so the kernel notices a peer that vanished
        begun = time.monotonic()
        await asyncio.get_running_loop().sock_connect(raw, where)
    except BaseException:
        raw.close()
        raise
    return raw, time.monotonic() - begun


async def _drop(attempts: Iterable["asyncio.Task[Dialed]"]) -> None:
    """Cancel the remaining attempts, and close those that have succeeded meanwhile."""
    for attempt in attempts:
        attempt.cancel()
    for dialed in await asyncio.gather(*attempts, return_exceptions=True):
        if not isinstance(dialed, BaseException):
            dialed[0].close()


def _best_explanation(failures: list[BaseException]) -> BaseException:
    """A refusal, if there is one: a machine without IPv6 has "no route" for every IPv6 address."""
    refusals = (failure for failure in failures if isinstance(failure, ConnectionRefusedError))
    return next(refusals, failures[0] if failures else OSError("the name has no address"))


def _literal_address(host: str, port: int) -> Address | None:
    """The address, if the host is one and needs no look-up."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return (socket.AF_INET6, (host, port, 0, 0)) if version == 6 else (socket.AF_INET, (host, port))
