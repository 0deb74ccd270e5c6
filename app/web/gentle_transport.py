"""What an answer writes to: the transport, but for its closing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.web.protocol import ClientConnection


class GentleTransport:
    """Closes so that the client sees the answer's end."""

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: "ClientConnection") -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        """Let the client see the answer's end."""
        self._connection.close_gently()
