"""The client that has left: an answer may still be read to its end, to be weighed."""

from app.domain.errors import ApiError
from app.domain.headers import Headers


class NullDownstream:
    """A Downstream that takes everything and wants nothing."""

    def start(self, status: int, headers: Headers) -> None:
        """Nobody reads it."""

    def body(self, chunk: bytes) -> None:
        """Nobody reads it."""

    def finish(self) -> None:
        """Nobody waits for it."""

    def refuse(self, error: ApiError) -> None:
        """Nobody reads it."""

    def abort(self) -> None:
        """Nobody notices."""


NULL_DOWNSTREAM = NullDownstream()
