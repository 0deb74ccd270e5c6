"""The downstream of a client that has left, while its answer is read on for its usage."""

from app.domain.errors import ApiError
from app.domain.headers import Headers


class NullDownstream:
    """A Downstream that sends nothing."""

    def start(self, status: int, headers: Headers) -> None: ...
    def body(self, chunk: bytes) -> None: ...
    def finish(self) -> None: ...
    def refuse(self, error: ApiError) -> None: ...
    def abort(self) -> None: ...


NULL_DOWNSTREAM = NullDownstream()
