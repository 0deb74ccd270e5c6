"""A way to a server that can be cut, or fall silent: what is sent then arrives nowhere, and nobody is told."""

import contextlib
import select
import socket
import threading
from typing import Self


class Relay:
    """Listens on `port` and passes bytes to and from the port of the real server."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def freeze(self) -> None:
        """From now on nothing arrives, and new connections are taken and left without an answer."""
        self._flowing.clear()

    def cut(self) -> None:
        """Break all connections, and each new one at once."""
        self._refusing = True
        self._break()

    def mend(self) -> None:
        """All is well again; what had been frozen is delivered."""
        self._refusing = False
        self._flowing.set()

    def close(self) -> None:
        self._refusing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._flowing.set()
        self._threads[0].join()
        self._break()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _break(self) -> None:
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError), self._listener:
            while True:
                near, _ = self._listener.accept()
                if self._refusing:
                    near.close()
                    continue
                thread = threading.Thread(target=self._pass, args=(near,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self._target)) as far:
            self._sockets += [near, far]
            other = {near: far, far: near}
            while True:
                ready, _, _ = select.select([near, far], [], [])
                for source in ready:
                    chunk = source.recv(65536)
                    self._flowing.wait()
                    if not chunk:
                        return
                    other[source].sendall(chunk)
