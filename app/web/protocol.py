"""Our uvicorn protocol class: httptools' parser with what uvicorn leaves to others.

Tells the hot route at once when its client's connection is lost, without a task per call that waits for it.
"""

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CONNECTION = "weighbridge.connection"
"""Where the ASGI scope of a request holds its connection."""


class ClientConnection(HttpToolsProtocol):
    """One client connection. At most one request of it is being answered; `on_lost` is that one's."""

    on_lost: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        """Give the request its connection."""
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever is answering."""
        super().connection_lost(exc)
        lost, self.on_lost = self.on_lost, None
        if lost is not None:
            lost()
