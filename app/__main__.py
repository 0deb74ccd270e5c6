"""`weighbridge`, and `python -m app`."""

import os
import sys
from typing import NoReturn

from app.private_files import UntrustedFile
from app.serve.signals import hear_stops, leave_when_told
from app.standard_output import CannotPrint, watch_standard_output

UNTRUSTED = 2
"""The exit code where a file in the state directory may be somebody else's."""


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        leave_when_told()  # before the rest is loaded, which takes most of a start
    hear_stops()
    _fill_gaps()
    watch_standard_output()
    from app.cli.main import app

    try:
        try:
            app(prog_name="weighbridge")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except UntrustedFile as error:
        sys.stderr.write(f"weighbridge: {error}\n")
        sys.exit(UNTRUSTED)
    except CannotPrint as error:
        _stop_printing(error)


def _fill_gaps() -> None:
    """Open what a caller has closed of 0, 1 and 2 (`<&-`): the loop aborts when it gets such a number for its own."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)


def _stop_printing(error: CannotPrint) -> NoReturn:
    """Exit code 1, as for any failure. Whoever has closed the pipe, as `head` does, has read enough and hears nothing.

    Python would end with 120 and a traceback.
    """
    if not error.reader_left:
        sys.stderr.write(f"weighbridge: {error}\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left of it goes there
    sys.exit(1)


if __name__ == "__main__":
    main()
