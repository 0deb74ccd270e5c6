"""Standard output that tells by an error of its own when it cannot be written."""

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class CannotPrint(Exception):
    """Standard output takes no more. `reader_left` when it is a pipe that nobody reads, as after `| head`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"what was to be printed cannot be written: {error.strerror}")
        self.reader_left = isinstance(error, BrokenPipeError)


class _Descriptor(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        """Raises CannotPrint."""
        try:
            return super().write(data)
        except OSError as error:
            raise CannotPrint(error) from None


def watch_standard_output() -> None:
    """From now on, printing raises CannotPrint where it would raise OSError."""
    plain = sys.stdout
    if isinstance(plain, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(1, "wb", closefd=False)),
            encoding=plain.encoding,
            errors=plain.errors,
            line_buffering=plain.line_buffering,
        )
